//! The real program, serving from a folder with its configuration until it is dropped.

#![allow(
    dead_code,
    reason = "each test binary uses its own part of this module"
)]

use std::{
    ffi::OsStr,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
};

pub(crate) struct Program {
    pub(crate) process: Child,
    /// Of the listener for pulls, and of the one for operators.
    pub(crate) address: String,
    pub(crate) admin: String,
}

impl Program {
    /// Starts `pullgate serve` with the `pullgate.yaml` of this folder, and waits until it
    /// listens.
    pub(crate) fn start(program: impl AsRef<OsStr>, folder: &Path) -> Self {
        let mut process = Command::new(program)
            .args(["serve", "--config"])
            .arg(folder.join("pullgate.yaml"))
            .env("PULLGATE_LOG", "error")
            .stdout(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let mut line = String::new();
        let stdout = process.stdout.take().expect("its stdout");
        BufReader::new(stdout)
            .read_line(&mut line)
            .expect("its first line");
        let (address, admin) = line
            .trim_end()
            .strip_prefix("listening on ")
            .and_then(|rest| rest.split_once(", admin on "))
            .expect("the line on stdout");
        Self {
            address: address.to_owned(),
            admin: admin.to_owned(),
            process,
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
