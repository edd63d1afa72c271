//! A PostgreSQL server in a folder and on a port of its own.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

/// A running server with password authentication; stopped and removed when dropped.
pub struct Postgres {
    folder: TempDir,
    programs: PathBuf,
    /// PostgreSQL refuses to run as root: whom to run it as then.
    user: Option<Account>,
    port: u16,
    password: String,
}

#[derive(Clone, Copy)]
struct Account {
    uid: u32,
    gid: u32,
}

const SUPERUSER: &str = "steward";

/// A port that is free now, below those that systems hand out: while its server is not up, one of those could go to the
/// end of any connection, even of the one that looks for the server. Who takes it first makes the test fail, not lie.
pub fn free_port() -> u16 {
    let mut candidates = uuid::Uuid::new_v4().into_bytes().into_iter().map(u16::from);
    let mut next = move || Some(20_000 + (candidates.next()? << 8 | candidates.next()?) % 12_000);
    std::iter::from_fn(&mut next)
        .find(|port| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .expect("a free port among eight")
}

impl Postgres {
    /// Starts a server; `None`, with a message, where PostgreSQL is not installed.
    pub fn start() -> Option<Self> {
        let Some(programs) = programs() else {
            println!(
                "skipped: PostgreSQL (initdb, pg_ctl) is not installed; docker/setup.sh says how to get it"
            );
            return None;
        };
        let folder = tempfile::tempdir().unwrap();
        let user =
            (number("-u", "") == Some(0)).then(|| account().expect("an unprivileged user for PostgreSQL"));
        if let Some(Account { uid, gid }) = user {
            std::os::unix::fs::chown(folder.path(), Some(uid), Some(gid)).unwrap();
        }
        let port = free_port();
        let password = uuid::Uuid::new_v4().simple().to_string();
        let postgres = Self { folder, programs, user, port, password };
        let password_file = postgres.folder.path().join("password");
        std::fs::write(&password_file, &postgres.password).unwrap();
        if let Some(Account { uid, gid }) = postgres.user {
            std::os::unix::fs::chown(&password_file, Some(uid), Some(gid)).unwrap();
        }
        postgres.run(
            "initdb",
            &[
                "--username",
                SUPERUSER,
                "--auth",
                "scram-sha-256",
                "--encoding",
                "UTF8",
                "--no-locale",
                "--no-sync",
                "--pwfile",
                password_file.to_str().unwrap(),
            ],
        );
        postgres.resume();
        Some(postgres)
    }

    pub fn password(&self) -> &str {
        &self.password
    }

    /// The address of a new and empty database.
    pub async fn database(&self, name: &str, scheme: &str) -> String {
        self.execute(format!("CREATE DATABASE {name}")).await;
        format!("{scheme}://{SUPERUSER}:{}@127.0.0.1:{}/{name}", self.password, self.port)
    }

    /// Runs a statement as the superuser.
    pub async fn execute(&self, sql: String) {
        sqlx::any::install_default_drivers();
        let url = format!("postgres://{SUPERUSER}:{}@127.0.0.1:{}/postgres", self.password, self.port);
        let mut connection = <sqlx::AnyConnection as sqlx::Connection>::connect(&url).await.unwrap();
        sqlx::query(sqlx::AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
    }

    /// Ends the server and every connection, as an administrator's restart does.
    pub fn stop(&mut self) {
        self.run("pg_ctl", &["stop", "-m", "fast", "-w"]);
    }

    /// Starts it (again) and waits until it takes connections.
    pub fn resume(&self) {
        let folder = self.folder.path().display();
        // Nothing here has to survive the machine.
        let options = format!(
            "-p {} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off -c max_connections=60",
            self.port
        );
        let log = self.folder.path().join("log");
        self.run("pg_ctl", &["start", "-w", "-l", log.to_str().unwrap(), "-o", &options]);
    }

    fn run(&self, program: &str, arguments: &[&str]) {
        let status = self.command(program, arguments).status().unwrap();
        let log = std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
        assert!(status.success(), "{program} {arguments:?}: {status}\n{log}");
    }

    fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let program = self.programs.join(program);
        let mut command = match self.user {
            None => Command::new(program),
            Some(Account { uid, gid }) => {
                let mut command = Command::new("setpriv");
                command.args([format!("--reuid={uid}"), format!("--regid={gid}")]);
                command.arg("--clear-groups").arg("--").arg(program);
                command
            }
        };
        // The server inherits what pg_ctl has open: a pipe would never end.
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.current_dir(self.folder.path()).env("HOME", self.folder.path());
        command.arg("-D").arg(self.folder.path().join("data")).args(arguments);
        command
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // It may have been stopped by the test.
        let _ = self.command("pg_ctl", &["stop", "-m", "immediate", "-w"]).status();
    }
}

/// The folder of the newest PostgreSQL's programs.
fn programs() -> Option<PathBuf> {
    let complete =
        |folder: &Path| ["initdb", "pg_ctl", "postgres"].iter().all(|name| folder.join(name).is_file());
    let mut folders: Vec<PathBuf> =
        std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()).collect();
    // Debian keeps them apart, a folder a version.
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().filter_map(Result::ok);
    let mut versions: Vec<(u32, PathBuf)> = versions
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .collect();
    versions.sort_by_key(|(version, _)| std::cmp::Reverse(*version));
    folders.extend(versions.into_iter().map(|(_, folder)| folder));
    folders.into_iter().find(|folder| complete(folder))
}

/// PostgreSQL's own user where its package made one, otherwise nobody.
fn account() -> Option<Account> {
    ["postgres", "nobody"]
        .into_iter()
        .find_map(|name| Some(Account { uid: number("-u", name)?, gid: number("-g", name)? }))
}

/// What `id` says; of oneself if the name is empty.
fn number(option: &str, name: &str) -> Option<u32> {
    let name = Some(name).filter(|name| !name.is_empty());
    let output = Command::new("id").arg(option).args(name).stderr(Stdio::null()).output().ok()?;
    String::from_utf8(output.stdout).ok()?.trim().parse().ok()
}
