//! The OCI distribution specification's own conformance suite, every read of it through the gate.
//!
//! In its read-only mode the suite hardly looks at more than status codes. So the wire is split:
//! nginx sends every write, and all of `/blobs/uploads/`, to the registry, and every GET and HEAD
//! to the gate. What the suite pushes it then reads back through the gate, and all that it says
//! about bodies, headers, ranges, tag lists and referrers is about the gate.
//!
//! Each registry is first tried by itself. What passes there has to pass through the gate.

use std::collections::BTreeMap;
use std::path::Path;
use std::path::PathBuf;

use crate::harness::gate::Gate;
use crate::harness::gate::before;
use crate::harness::process::Daemon;
use crate::harness::process::Undertaker;
use crate::harness::process::command;
use crate::harness::process::free_port;
use crate::harness::process::run;
use crate::harness::registry::Registry;

/// The reads that distribution 3.1.2 passes by itself.
const DISTRIBUTION_READS: usize = 282;
/// The reads that ferro-oci-server 1.0.0 passes by itself; it knows no ranges.
const FERRO_READS: usize = 278;

#[test]
#[ignore = "needs the real parts that .ci/install brings"]
fn every_read_of_distribution_passes_through_the_gate() {
    let undertaker = Undertaker::call();
    let registry = Registry::distribution(&undertaker);
    assert_eq!(compared(&registry, false, &undertaker), DISTRIBUTION_READS);
}

#[test]
#[ignore = "needs the real parts that .ci/install brings"]
fn every_read_of_a_registry_with_referrers_passes_through_the_gate() {
    let undertaker = Undertaker::call();
    let registry = Registry::ferro(&undertaker);
    assert_eq!(compared(&registry, true, &undertaker), FERRO_READS);
}

/// The number of reads that pass at the registry itself, each of which passes through the gate.
fn compared(registry: &Registry, has_referrers: bool, undertaker: &Undertaker) -> usize {
    let origin = registry.address().to_string();
    let gate = gate(&origin, undertaker);
    let front = Split::start(&origin, gate.address(), undertaker);
    let suite = |name: &str, address: &str| {
        let folder = undertaker.folder(&format!("suite-{name}"));
        read_back(&folder, name, address, has_referrers)
    };
    let directly = suite("directly", &origin);
    let through = suite("through", &front.address);
    let lost: Vec<_> = directly
        .iter()
        .filter(|(_, passed)| **passed)
        .filter(|(read, _)| through.get(read) != Some(&true))
        .collect();
    assert!(lost.is_empty(), "lost: {lost:#?}\n{}", gate.log());
    let passed = directly.values().filter(|passed| **passed).count();
    let through = through.values().filter(|passed| **passed).count();
    println!(
        "{}: {passed} reads pass directly, {through} through the gate",
        registry.name()
    );
    passed
}

/// A gate that lets everything pass: the suite's content is signed by nobody.
fn gate(origin: &str, undertaker: &Undertaker) -> Gate {
    // The suite moves tags and looks again at once, and what it reads comes from the directory.
    let cache = undertaker.folder("conformance-cache");
    let cache = format!(
        "cache: {{ tag_ttl: 0s, directory: {}, memory_bytes_max: 64KiB }}\n",
        cache.display()
    );
    let settings = before(origin) + &cache;
    Gate::serve(
        "conformance-gate",
        &settings,
        "default: unsafe_allow\n",
        undertaker,
    )
}

/// nginx, which divides reads from writes.
struct Split {
    address: String,
    _daemon: Daemon,
}

impl Split {
    fn start(registry: &str, gate: &str, undertaker: &Undertaker) -> Self {
        let folder = undertaker.folder("split");
        let address = format!("127.0.0.1:{}", free_port());
        let settings = folder.join("nginx.conf");
        let text = split_settings(&folder, &address, registry, gate);
        std::fs::write(&settings, text).expect("nginx's settings");
        let mut daemon = undertaker.start(
            "split",
            command("nginx").args(["-e", "stderr", "-c"]).arg(&settings),
        );
        let (_, port) = address.rsplit_once(':').expect("an address with a port");
        daemon.listens(port.parse().expect("a port"));
        Self {
            address,
            _daemon: daemon,
        }
    }
}

fn split_settings(folder: &Path, address: &str, registry: &str, gate: &str) -> String {
    let folder = folder.display();
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .iter()
        .map(|name| format!("  {name}_temp_path {folder}/{name};\n"))
        .collect();
    format!(
        r"daemon off;
pid {folder}/nginx.pid;
events {{}}
http {{
{temporary}  access_log off;
  client_max_body_size 0;
  upstream registry {{ server {registry}; }}
  upstream gate {{ server {gate}; }}
  map $request_method $by_method {{ GET gate; HEAD gate; default registry; }}
  map $uri $target {{ ~/blobs/uploads/ registry; default $by_method; }}
  server {{
    listen {address};
    location / {{
      proxy_pass http://$target;
      proxy_http_version 1.1;
      proxy_set_header Host $http_host;
      proxy_buffering off;
      proxy_request_buffering off;
    }}
  }}
}}
"
    )
}

/// A test of the suite, and which of those with its name.
type Read = (String, usize);

/// Runs the suite; every read with whether it passed.
fn read_back(
    folder: &Path,
    name: &str,
    registry: &str,
    has_referrers: bool,
) -> BTreeMap<Read, bool> {
    let mut suite = command("conformance");
    suite
        .current_dir(folder)
        .env("OCI_REGISTRY", registry)
        .env("OCI_TLS", "disabled")
        .env("OCI_LOG", "error")
        .env("OCI_RESULTS_DIR", folder)
        .env("OCI_REPO1", format!("{name}/one"))
        .env("OCI_REPO2", format!("{name}/two"))
        .env("OCI_API_BLOBS_DIGEST_HEADER", "true")
        .env("OCI_API_MANIFESTS_DIGEST_HEADER", "true")
        .env("OCI_API_REFERRER", has_referrers.to_string());
    for switched_off in [
        "OCI_API_BLOBS_ATOMIC",
        "OCI_API_BLOBS_DELETE",
        "OCI_API_MANIFESTS_ATOMIC",
        "OCI_API_MANIFESTS_DELETE",
        "OCI_API_TAGS_ATOMIC",
        "OCI_API_TAGS_DELETE",
        "OCI_DATA_SHA512",
        "OCI_DATA_NONDISTRIBUTABLE",
    ] {
        suite.env(switched_off, "false");
    }
    // Its exit code is about writes as well, which are no business of the gate.
    let finished = run(&mut suite);
    let report = PathBuf::from(folder).join("junit.xml");
    let report = std::fs::read_to_string(report)
        .unwrap_or_else(|error| panic!("the suite has no report ({error}): {}", finished.said));
    reads(&report)
}

/// The reads of a JUnit report. Texts in it are escaped, so `<testcase ` is always an element.
fn reads(report: &str) -> BTreeMap<Read, bool> {
    let mut reads = BTreeMap::new();
    for case in report.split("<testcase ").skip(1) {
        let attribute = |name: &str| {
            let (_, rest) = case.split_once(&format!("{name}=\""))?;
            rest.split_once('"').map(|(value, _)| value)
        };
        let name = attribute("name").expect("a name");
        if is_write(name) {
            continue;
        }
        let earlier = (0..)
            .find(|number| !reads.contains_key(&(name.to_owned(), *number)))
            .expect("finitely many");
        let passed = attribute("status") == Some("passed");
        reads.insert((name.to_owned(), earlier), passed);
    }
    reads
}

/// Whether a test is one of pushes and deletes, by its last part.
fn is_write(name: &str) -> bool {
    let last = name.rsplit('/').next().unwrap_or_default();
    let writes = ["blob-delete", "blob-mount", "blob-patch", "blob-post"];
    name.contains("/push/")
        || writes.iter().any(|write| last.starts_with(write))
        || ["manifest-put", "manifest-delete", "tag-delete"].contains(&last)
}
