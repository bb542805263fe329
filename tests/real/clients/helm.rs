//! `helm`, which pulls charts.

use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use crate::clients::Login;
use crate::clients::LogsIn;
use crate::clients::containers::read;
use crate::clients::logins::Program;
use crate::clients::logins::said;
use crate::harness::World;
use crate::harness::catalogue::OURS;
use crate::harness::cosign::Signing;
use crate::harness::process::must;
use crate::harness::process::run;

/// Where charts lie; helm adds the name of the chart itself.
const CHARTS: &str = "release/charts";

/// The chart's description of itself.
const CHART: &str = "apiVersion: v2\nname: widget\nversion: 1.0.0\n";

/// `helm registry login`, then `helm pull` of a signed chart.
pub(crate) struct HelmLogin {
    program: Program,
    archive: PathBuf,
}

impl LogsIn for HelmLogin {
    const REPOSITORY: &'static str = "release/charts/widget";
    const TAG: &'static str = "1.0.0";

    fn set_up(world: &'static World) -> Self {
        let program = Program::named(world, "helm");
        let archive = package(&program);
        for site in &world.sites {
            let host = site.front.host();
            let digest = push(&program, &archive, &format!("{host}/{CHARTS}"));
            let name = format!("{host}/{}@{digest}", Self::REPOSITORY);
            world.cosign.sign(Signing::Keyless(OURS), &name);
            site.front.forget();
        }
        Self { program, archive }
    }

    fn pull_as(&self, login: &Login, reference: &str) -> Result<(), String> {
        let (chart, version) = reference.rsplit_once(':').expect("a tag");
        let gate = reference.split('/').next().expect("a host");
        let mut entered = helm(&self.program);
        entered.args(["registry", "login", "--plain-http"]);
        entered.args(["--username", &login.user]);
        said(entered.args(["--password", &login.password, gate]))?;
        let folder = self.program.empty();
        std::fs::create_dir(&folder).expect("a folder for charts");
        let mut pull = helm(&self.program);
        pull.args([
            "pull",
            "--plain-http",
            "--version",
            version,
            "--destination",
        ]);
        said(pull.arg(&folder).arg(format!("oci://{chart}")))?;
        let name = self.archive.file_name().expect("a file");
        assert_eq!(read(&folder.join(name)), read(&self.archive));
        Ok(())
    }
}

fn helm(program: &Program) -> Command {
    let mut helm = program.command("helm");
    for variable in ["HELM_CONFIG_HOME", "HELM_CACHE_HOME", "HELM_DATA_HOME"] {
        helm.env(variable, program.file("helm"));
    }
    helm.env_remove("HELM_REGISTRY_CONFIG");
    helm
}

/// The archive of a chart that has nothing but a name.
fn package(program: &Program) -> PathBuf {
    let folder = program.file("widget");
    std::fs::create_dir_all(&folder).expect("a folder for the chart");
    std::fs::write(folder.join("Chart.yaml"), CHART).expect("a chart");
    must(
        helm(program)
            .arg("package")
            .arg(&folder)
            .arg("--destination")
            .arg(program.file("packaged")),
    );
    program.file("packaged/widget-1.0.0.tgz")
}

/// Pushes it, and answers its digest.
fn push(program: &Program, archive: &Path, charts: &str) -> String {
    let mut push = helm(program);
    push.args(["push", "--plain-http"]).arg(archive);
    let pushed = run(push.arg(format!("oci://{charts}")));
    let digest = pushed
        .said
        .lines()
        .find_map(|line| line.strip_prefix("Digest: "));
    match digest {
        Some(digest) if pushed.success => digest.trim().to_owned(),
        _ => panic!("helm push failed: {}", pushed.said),
    }
}
