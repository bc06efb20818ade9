//! Starts and ends the programs of a run. Every one ends with its value, and with the bench itself however that ends.

use crate::plan::Upstream;
use rig::{Context, Result, procfs};
use rustix::process::{Pid, Signal, kill_process};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Where the programs are, and where they may write.
pub struct Tools {
    pub ferry: PathBuf,
    pub nginx: PathBuf,
    pub load: PathBuf,
    pub upstream: PathBuf,
    pub work: PathBuf,
}

/// How long a program may take to come up or to leave.
const BOUND: Duration = Duration::from_secs(15);

/// A started program.
pub struct Process {
    child: Child,
    /// Held open: the stub upstream lives as long as this does.
    _stdin: Option<ChildStdin>,
    pub port: u16,
}

impl Process {
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The process and its children (nginx's workers).
    pub fn all_ids(&self) -> Result<Vec<u32>> {
        let mut ids = vec![self.id()];
        ids.extend(procfs::children(self.id())?);
        Ok(ids)
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// SIGTERM, after which the process must end with 0.
    pub fn leave_well(mut self) -> Result<()> {
        match self.end() {
            Some(status) if status.success() => Ok(()),
            Some(status) => Err(format!("the ferry ended with {status} after SIGTERM")),
            None => Err(format!(
                "the ferry did not end within {BOUND:?} after SIGTERM"
            )),
        }
    }

    fn end(&mut self) -> Option<ExitStatus> {
        if let Ok(Some(status)) = self.child.try_wait() {
            return Some(status);
        }
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        let begun = Instant::now();
        while begun.elapsed() < BOUND {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Some(status);
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        None
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.end().is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// A command that gets SIGTERM when the bench is gone.
fn tethered(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "TERM", "--"]).arg(program);
    command
}

impl Tools {
    /// The stub upstream; with `spoil`, one that answers every so manieth call wrongly.
    pub fn upstream(&self, upstream: Upstream, spoil: Option<u32>) -> Result<Process> {
        let mut command = Command::new(&self.upstream);
        command
            .args(["--mode", upstream.mode()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        if let Some(every) = spoil {
            command.args(["--spoil", &every.to_string()]);
        }
        let mut child = command.spawn().context("start the upstream")?;
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        let mut process = Process {
            child,
            _stdin: stdin,
            port: 0,
        };
        let mut line = String::new();
        BufReader::new(stdout.ok_or("no output")?)
            .read_line(&mut line)
            .context("upstream")?;
        process.port = line.trim().parse().context("upstream's port")?;
        Ok(process)
    }

    /// The ferry before one upstream; what it logs goes to a file of that name.
    pub fn ferry(&self, upstream: &Process, log: &str) -> Result<Process> {
        let mut command = tethered(&self.ferry);
        let (process, mut stderr) = started(ferry_arguments(&mut command, &upstream.url("/mcp")))?;
        let mut file =
            std::fs::File::create(self.work.join(format!("{log}.log"))).context("log")?;
        std::thread::spawn(move || std::io::copy(&mut stderr, &mut file));
        Ok(process)
    }

    /// The ferry with its admin listener, and somebody who watches the tap as its page does, for as long as it lives; or
    /// who asks for it and then does not read.
    pub fn watched_ferry(&self, upstream: &Process, reads: bool) -> Result<Process> {
        let free = TcpListener::bind("127.0.0.1:0").context("free port")?;
        let admin = free.local_addr().context("free port")?;
        drop(free);
        let token = "0123456789abcdef0123456789abcdef";
        let mut command = tethered(&self.ferry);
        ferry_arguments(&mut command, &upstream.url("/mcp"));
        command.args(["--admin", &admin.to_string(), "--admin-token", token]);
        let (process, mut stderr) = started(&mut command)?;
        std::thread::spawn(move || std::io::copy(&mut stderr, &mut std::io::sink()));
        let mut page = TcpStream::connect_timeout(&admin, BOUND).context("the admin listener")?;
        let watch = format!(
            "GET /api/live HTTP/1.1\r\nHost: {admin}\r\nAuthorization: Bearer {token}\r\n\r\n"
        );
        page.write_all(watch.as_bytes()).context("the tap")?;
        let mut lines = BufReader::new(page);
        let mut status = String::new();
        lines.read_line(&mut status).context("the tap")?;
        if !status.contains(" 200 ") {
            return Err(format!("the tap is not to be watched: {}", status.trim()));
        }
        std::thread::spawn(move || {
            if reads {
                // An error is its end.
                let _ = std::io::copy(&mut lines, &mut std::io::sink());
                return;
            }
            // Open, and never looked at, until the program ends.
            loop {
                std::thread::park();
            }
        });
        Ok(process)
    }

    /// The ferry as it is started by hand, for its start-up time.
    pub fn bare_ferry(&self, upstream: &Process) -> Result<(Process, impl Read + use<>)> {
        started(ferry_arguments(
            &mut Command::new(&self.ferry),
            &upstream.url("/mcp"),
        ))
    }

    /// A ferry under valgrind, which counts no instruction before it is told to; what it says goes to `log`.
    pub fn counted_ferry(&self, ferry: &Path, upstream: &Process, log: &Path) -> Result<Process> {
        let mut command = tethered(Path::new("valgrind"));
        command.args(["--tool=callgrind", "--instr-atstart=no"]);
        command.arg("--callgrind-out-file=/dev/null");
        command.arg(format!("--log-file={}", log.display()));
        command.arg(ferry);
        let (process, mut stderr) = started(ferry_arguments(&mut command, &upstream.url("/mcp")))?;
        std::thread::spawn(move || std::io::copy(&mut stderr, &mut std::io::sink()));
        Ok(process)
    }

    /// nginx with one listening port per upstream, in the same order.
    pub fn nginx(&self, upstreams: &[Process]) -> Result<(Process, Vec<u16>)> {
        let mut ports = Vec::new();
        let mut servers = String::new();
        // Bound all at once, so that they differ; free again when nginx binds them.
        let free: std::io::Result<Vec<_>> = upstreams
            .iter()
            .map(|_| TcpListener::bind("127.0.0.1:0"))
            .collect();
        for (listener, upstream) in free.context("free port")?.iter().zip(upstreams) {
            let port = listener.local_addr().context("free port")?.port();
            servers.push_str(&nginx_server(port, upstream.port));
            ports.push(port);
        }
        let folder = self.work.join("nginx");
        std::fs::create_dir_all(&folder).context("nginx folder")?;
        let folder = folder.canonicalize().context("nginx folder")?;
        std::fs::write(folder.join("nginx.conf"), nginx_conf(&servers)).context("nginx.conf")?;
        let log = std::fs::File::create(folder.join("log")).context("nginx log")?;
        let mut command = tethered(&self.nginx);
        command
            .arg("-p")
            .arg(&folder)
            .args(["-c", "nginx.conf", "-e", "stderr"])
            .stderr(log);
        let child = command.spawn().context("start nginx")?;
        let mut process = Process {
            child,
            _stdin: None,
            port: 0,
        };
        let begun = Instant::now();
        for &port in &ports {
            while TcpStream::connect_timeout(&SocketAddr::from(([127, 0, 0, 1], port)), BOUND)
                .is_err()
            {
                if begun.elapsed() > BOUND || !matches!(process.child.try_wait(), Ok(None)) {
                    return Err(format!(
                        "nginx does not come up, see {}",
                        folder.join("log").display()
                    ));
                }
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        Ok((process, ports))
    }
}

fn ferry_arguments<'a>(command: &'a mut Command, upstream: &str) -> &'a mut Command {
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("MCP_FERRY_")) {
        command.env_remove(name);
    }
    // No load balancer has to notice that it leaves.
    command.args(["--drain-delay", "0s"]);
    command.args(["--upstream", upstream, "--listen", "127.0.0.1:0"])
}

/// Spawns the ferry and waits for the line that tells its port.
fn started(command: &mut Command) -> Result<(Process, impl Read + use<>)> {
    let mut child = command
        .stderr(Stdio::piped())
        .spawn()
        .context("start the ferry")?;
    let stderr = child.stderr.take();
    let mut process = Process {
        child,
        _stdin: None,
        port: 0,
    };
    let mut lines = BufReader::new(stderr.ok_or("no output")?);
    let mut said = String::new();
    loop {
        let from = said.len();
        if lines.read_line(&mut said).context("the ferry's log")? == 0 {
            return Err(format!("the ferry ended at start: {said}"));
        }
        if let Some((_, address)) = said[from..].split_once("listening on http://127.0.0.1:") {
            let digits: String = address.chars().take_while(char::is_ascii_digit).collect();
            process.port = digits.parse().context("the ferry's port")?;
            return Ok((process, lines));
        }
    }
}

fn nginx_server(port: u16, upstream: u16) -> String {
    format!(
        "
    upstream u{port} {{
        server 127.0.0.1:{upstream};
        keepalive 256;
        keepalive_requests 100000000;
    }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://u{port};
            proxy_http_version 1.1;
            proxy_set_header Connection \"\";
            proxy_buffering off;
        }}
    }}"
    )
}

/// Debian's defaults in what matters (a worker per core), nothing logged, and no connection ended by a request count.
fn nginx_conf(servers: &str) -> String {
    format!(
        "daemon off;
worker_processes auto;
pid nginx.pid;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    keepalive_requests 100000000;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
{servers}
}}
"
    )
}
