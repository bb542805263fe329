//! The garden: what `pullgate demo`, the tests and the benches play with. Nothing that serves
//! real pulls imports it, and it is left out of the container image.

pub mod registry;
