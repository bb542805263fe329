//! Docker's credential helpers: programs that keep passwords. One is run only where the
//! configuration lists it, with a time limit, and little of what it says is read.

use std::{process::Stdio, sync::Arc, time::Duration};

use serde::Deserialize;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    process::Command,
    sync::Mutex,
    time::{Instant, timeout},
};

use crate::upstream::Keeper;
use crate::upstream::Secret;
use crate::upstream::Told;

/// How long a helper may take; some ask a cloud's service.
const DEADLINE: Duration = Duration::from_secs(10);
/// The most that is read of what a helper says, in bytes.
const ANSWER_BYTES_MAX: u64 = 64 << 10;
/// For how long an answer is taken again, so that many first pulls start one program.
const ANSWER_TTL: Duration = Duration::from_secs(60);

/// What a helper writes.
#[derive(Deserialize)]
struct Answer {
    #[serde(rename = "Username")]
    username: String,
    #[serde(rename = "Secret")]
    secret: String,
}

/// A keeper that runs `docker-credential-<name>` for the login at `server`, one at a time.
pub(super) fn keeper(name: &str, server: &str) -> Keeper {
    let program: Arc<str> = format!("docker-credential-{name}").into();
    let server: Arc<str> = server.into();
    let held: Arc<Mutex<Option<(Instant, Told)>>> = Arc::default();
    Arc::new(move || {
        let (program, server, held) =
            (Arc::clone(&program), Arc::clone(&server), Arc::clone(&held));
        Box::pin(async move {
            let mut held = held.lock().await;
            if let Some((at, told)) = &*held
                && at.elapsed() < ANSWER_TTL
            {
                return told.clone();
            }
            let told = timeout(DEADLINE, ask(&program, &server))
                .await
                .unwrap_or_else(|_| Err(format!("{program} took longer than {DEADLINE:?}")));
            // A failure is not kept: the next pull may find it mended.
            *held = told.is_ok().then(|| (Instant::now(), told.clone()));
            told
        })
    })
}

async fn ask(program: &str, server: &str) -> Told {
    let fails = |error: std::io::Error| format!("{program}: {error}");
    let mut child = Command::new(program)
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        // What it says there may be anything, a password too.
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .map_err(fails)?;
    let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
    let (Some(mut stdin), Some(stdout)) = (stdin, stdout) else {
        return Err(format!("{program} has no input and output"));
    };
    // One that does not read its input may still answer.
    let _ = stdin.write_all(format!("{server}\n").as_bytes()).await;
    drop(stdin);
    let mut answer = Vec::new();
    let mut limited = stdout.take(ANSWER_BYTES_MAX);
    limited.read_to_end(&mut answer).await.map_err(fails)?;
    let status = child.wait().await.map_err(fails)?;
    if !status.success() {
        return Err(format!("{program} has no login for {server} ({status})"));
    }
    let answer: Answer = serde_json::from_slice(&answer)
        .map_err(|_| format!("{program} did not answer as a credential helper does"))?;
    // `<token>` stands for an identity token, which is no password.
    if answer.username.is_empty() || answer.username == "<token>" {
        return Err(format!("{program} keeps no user and password for {server}"));
    }
    Ok((answer.username, Secret::new(&answer.secret)))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    /// A helper in a folder of its own, named by its whole path.
    fn helper(script: &str) -> (tempfile::TempDir, String) {
        let folder = tempfile::TempDir::new().expect("a folder");
        let path = folder.path().join("helper");
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("a script");
        let mode = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(&path, mode).expect("a script");
        let path = path.display().to_string();
        (folder, path)
    }

    #[tokio::test]
    async fn a_helper_is_asked_for_the_registry_and_answers() {
        let script = r#"read server; echo "{\"ServerURL\":\"$server\",\"Username\":\"$1-$server\",\"Secret\":\"word\"}""#;
        let (_folder, path) = helper(script);
        let (username, password) = ask(&path, "r.test").await.expect("a login");
        assert_eq!(username, "get-r.test");
        assert_eq!(format!("{password:?}"), "(secret)");
    }

    #[tokio::test]
    async fn what_a_helper_fails_with_is_told_without_its_words() {
        for script in [
            "echo credentials not found; exit 1",
            "echo secret",
            r#"echo '{"Username":"<token>","Secret":"secret"}'"#,
            // More than is read: cut off, it is no JSON.
            "head -c 100000 /dev/zero | tr '\\0' ' '; echo '{}'",
        ] {
            let (_folder, path) = helper(script);
            let told = ask(&path, "r.test").await.expect_err("no login");
            assert!(
                !told.contains("secret") && !told.contains("not found"),
                "{told}"
            );
        }
        let told = ask("/nowhere/docker-credential-x", "r.test").await;
        assert!(told.is_err());
    }
}
