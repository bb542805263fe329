//! What comes out through the gate and what does not, for each program that pulls.

use crate::clients::Client;
use crate::clients::Cri;
use crate::clients::Ctr;
use crate::clients::Podman;
use crate::clients::Route;
use crate::clients::Skopeo;
use crate::harness::world;

/// Every signed image arrives byte for byte, and only the gate has asked the registry.
fn signed_images_arrive<C: Client>() {
    let world = world();
    let client = C::set_up(world, Route::Gate);
    for site in &world.sites {
        site.front.forget();
        for entry in site.catalogue.served() {
            client
                .pull(entry)
                .unwrap_or_else(|said| panic!("{}: {said}\n{}", entry.reference, site.gate.log()));
            client.compare(entry);
        }
        assert_eq!(
            site.front.strangers().len(),
            0,
            "{:?}",
            site.front.strangers()
        );
    }
}

/// Every other image stays where it is; the user reads why, and the registry that the image is
/// named after, which the client could reach, has not heard of it.
fn other_images_do_not<C: Client>() {
    let world = world();
    let client = C::set_up(world, Route::Gate);
    for site in &world.sites {
        site.front.forget();
        for (entry, reason) in site.catalogue.refused() {
            let Err(said) = client.pull(entry) else {
                panic!("{} at {} was pulled", entry.reference, site.name);
            };
            assert!(
                said.contains(reason),
                "{} should say {reason}, but says: {said}",
                entry.reference
            );
            assert!(
                said.contains(&entry.image.digest),
                "names no digest: {said}"
            );
        }
        assert_eq!(
            site.front.strangers().len(),
            0,
            "{:?}",
            site.front.strangers()
        );
    }
}

/// While the gate is down a sealed client gets nothing, not even what is signed, and asks nobody
/// else for it (THREATS E2).
fn a_gate_that_is_down_is_not_passed_over<C: Client>() {
    let world = world();
    let client = C::set_up(world, Route::Down);
    for site in &world.sites {
        site.front.forget();
        let entry = site.catalogue.served().next().expect("a served image");
        assert!(client.pull(entry).is_err(), "{}", entry.reference);
        assert_eq!(site.front.strangers().len(), 0);
    }
}

/// The same client without the sealing gets the refused images from the original, which sees
/// it: so the two tests above would notice.
fn unsealed_clients_are_seen<C: Client>() {
    let world = world();
    let client = C::set_up(world, Route::Original);
    for site in &world.sites {
        site.front.forget();
        let (entry, _) = site.catalogue.refused().next().expect("a refused image");
        client
            .pull(entry)
            .unwrap_or_else(|said| panic!("{}: {said}", entry.reference));
        client.compare(entry);
        assert_ne!(site.front.strangers().len(), 0);
        site.front.forget();
    }
}

macro_rules! tests_of {
    ($($module:ident: $client:ty;)*) => {$(
        mod $module {
            use super::*;

            #[test]
            #[ignore = "needs the real parts that .ci/install brings"]
            fn pulls_what_the_right_identity_signed() {
                signed_images_arrive::<$client>();
            }

            #[test]
            #[ignore = "needs the real parts that .ci/install brings"]
            fn is_told_why_it_gets_nothing_else() {
                other_images_do_not::<$client>();
            }

            #[test]
            #[ignore = "needs the real parts that .ci/install brings"]
            fn gets_nothing_while_the_gate_is_down() {
                a_gate_that_is_down_is_not_passed_over::<$client>();
            }

            #[test]
            #[ignore = "needs the real parts that .ci/install brings"]
            fn would_be_seen_at_the_original() {
                unsealed_clients_are_seen::<$client>();
            }
        }
    )*};
}

tests_of! {
    podman: Podman;
    skopeo: Skopeo;
    ctr: Ctr;
    cri: Cri;
}
