//! Trusted roots: under a mutated one, evidence holds only where the place is not what it rests
//! on.
