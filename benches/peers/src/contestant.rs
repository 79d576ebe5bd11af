//! What a contestant does, and the contestants that live in a process of their own: one that breaks, or takes all
//! memory, takes nothing along.
//!
//! The parent writes one [`Request`] per line to the child's stdin and reads one JSON object per line from its
//! stdout: first `{"about": ..}`, then per request `{}`, `{"seconds": ..}` or `{"error": ..}`. Tensors travel as files
//! of little-endian f32. A child whose turn is over is stopped until its next one (on Linux): burn's threads look for
//! work thousands of times a second, at the cost of whoever's turn it is.

use crate::cases::{Input, Op};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::error::Error;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

/// A message is all that is ever done with an error.
pub type Result<T, E = Box<dyn Error>> = std::result::Result<T, E>;

/// Someone who can compute every op of the table.
pub trait Contestant {
    /// As the report calls it.
    fn name(&self) -> &'static str;

    /// Version, and what it runs on.
    fn about(&self) -> String;

    /// Takes the inputs over in its own layout, computes once and returns the result in PyTorch's.
    fn prepare(&mut self, op: &Op, inputs: &[Input]) -> Result<Vec<f32>>;

    /// Computes `times` times what was prepared and returns the seconds until all of it was done.
    fn run(&mut self, times: usize) -> Result<f64>;

    /// Lets go of what was prepared.
    fn release(&mut self);
}

/// What the parent asks for.
#[derive(Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
enum Request {
    Prepare { op: Op, inputs: Vec<File>, output: PathBuf },
    Run { times: usize },
    Release,
}

#[derive(Serialize, Deserialize)]
struct File {
    path: PathBuf,
    shape: Vec<usize>,
}

/// A child that gives no answer for so long has failed.
const PATIENCE: Duration = Duration::from_secs(900);

/// A contestant in a child process. One that failed is started anew for the next shape.
pub struct Remote {
    name: &'static str,
    about: String,
    command: Command,
    child: Option<Process>,
    scratch: PathBuf,
}

struct Process {
    child: Child,
    stdin: ChildStdin,
    answers: mpsc::Receiver<Value>,
}

impl Remote {
    /// Starts `command` and waits until it introduces itself.
    pub fn start(name: &'static str, mut command: Command) -> Result<Remote> {
        signal::die_with_parent(&mut command);
        let scratch = std::env::temp_dir().join(format!("peers-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&scratch)?;
        let mut remote = Remote { name, about: String::new(), command, child: None, scratch };
        remote.about = remote.spawn()?;
        Ok(remote)
    }

    fn spawn(&mut self) -> Result<String> {
        let mut child = self.command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let (stdin, stdout) = (child.stdin.take().expect("piped"), child.stdout.take().expect("piped"));
        let (sender, answers) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(|line| line.ok()) {
                // Whatever else a library prints is no answer.
                if let Ok(Value::Object(answer)) = serde_json::from_str(&line)
                    && sender.send(Value::Object(answer)).is_err()
                {
                    break;
                }
            }
        });
        self.child = Some(Process { child, stdin, answers });
        Ok(self.answer()?["about"].as_str().unwrap_or_default().to_string())
    }

    fn ask(&mut self, request: &Request) -> Result<Value> {
        if self.child.is_none() {
            self.spawn()?;
        }
        let process = self.child.as_mut().expect("just started");
        signal::resume(&process.child);
        // A child that is gone shows when its answer is read.
        let stdin = &mut process.stdin;
        let _ = writeln!(stdin, "{}", serde_json::to_string(request)?).and_then(|()| stdin.flush());
        let answer = self.answer()?;
        // What was released may still be on its way back to the system.
        if let (Some(process), false) = (&self.child, matches!(request, Request::Release)) {
            signal::stop(&process.child);
        }
        Ok(answer)
    }

    fn answer(&mut self) -> Result<Value> {
        let process = self.child.as_mut().expect("asked only while it runs");
        let error = match process.answers.recv_timeout(PATIENCE) {
            Ok(answer) => match answer.get("error") {
                None => return Ok(answer),
                Some(error) => error.as_str().unwrap_or_default().to_string(),
            },
            Err(mpsc::RecvTimeoutError::Timeout) => {
                format!("no answer in {} minutes", PATIENCE.as_secs() / 60)
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => match process.child.wait() {
                Ok(status) => format!("its process ended: {status}"),
                Err(error) => format!("its process ended: {error}"),
            },
        };
        // What failed once may be broken for good.
        self.child = None;
        Err(error.into())
    }
}

impl Contestant for Remote {
    fn name(&self) -> &'static str {
        self.name
    }

    fn about(&self) -> String {
        self.about.clone()
    }

    fn prepare(&mut self, op: &Op, inputs: &[Input]) -> Result<Vec<f32>> {
        let mut files = Vec::new();
        for (at, input) in inputs.iter().enumerate() {
            let path = self.scratch.join(format!("input-{at}"));
            std::fs::write(&path, bytemuck::cast_slice(&input.values))?;
            files.push(File { path, shape: input.shape.clone() });
        }
        let output = self.scratch.join("output");
        let answer = self.ask(&Request::Prepare { op: *op, inputs: files, output: output.clone() });
        let values = answer.and_then(|_| read(&output));
        for file in std::fs::read_dir(&self.scratch)? {
            std::fs::remove_file(file?.path())?;
        }
        values
    }

    fn run(&mut self, times: usize) -> Result<f64> {
        let answer = self.ask(&Request::Run { times })?;
        answer["seconds"].as_f64().ok_or_else(|| "it gave no time".into())
    }

    fn release(&mut self) {
        if self.child.is_some() {
            let _ = self.ask(&Request::Release);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Remote {
    fn drop(&mut self) {
        self.child = None;
        let _ = std::fs::remove_dir_all(&self.scratch);
    }
}

#[cfg(target_os = "linux")]
mod signal {
    use std::os::unix::process::CommandExt;
    use std::process::{Child, Command};

    /// A stopped child does not notice that its parent is gone.
    pub fn die_with_parent(command: &mut Command) {
        // SAFETY: between fork and exec this makes one system call and touches no memory.
        unsafe {
            command.pre_exec(|| {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                Ok(())
            });
        }
    }

    pub fn stop(child: &Child) {
        send(child, libc::SIGSTOP);
    }

    pub fn resume(child: &Child) {
        send(child, libc::SIGCONT);
    }

    fn send(child: &Child, signal: i32) {
        // SAFETY: the child is not waited for before it is dropped, so the number is still its own.
        unsafe {
            libc::kill(child.id() as i32, signal);
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod signal {
    use std::process::{Child, Command};

    pub fn die_with_parent(_: &mut Command) {}

    pub fn stop(_: &Child) {}

    pub fn resume(_: &Child) {}
}

fn read(path: &Path) -> Result<Vec<f32>> {
    let bytes = std::fs::read(path)?;
    Ok(bytes.chunks_exact(4).map(bytemuck::pod_read_unaligned).collect())
}

/// The child's side, for contestants in Rust. A panic of any thread is told in place of what it leads to.
pub fn serve(mut contestant: impl Contestant) -> Result<()> {
    let panicked = Arc::new(Mutex::new(None));
    let first = panicked.clone();
    std::panic::set_hook(Box::new(move |panic| {
        if let Ok(mut first) = first.lock() {
            first.get_or_insert(panic.payload_as_str().unwrap_or("panicked").to_string());
        }
    }));
    println!("{}", json!({ "about": contestant.about() }));
    for line in std::io::stdin().lines() {
        let request = serde_json::from_str(&line?)?;
        *panicked.lock().expect("the hook does not panic") = None;
        let answer =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| obey(&mut contestant, request)));
        let answer = match answer {
            Ok(Ok(answer)) => answer,
            failed => {
                let panic = panicked.lock().expect("the hook does not panic").take();
                let error = failed.ok().and_then(|error| error.err()).map(|error| error.to_string());
                json!({ "error": panic.or(error) })
            }
        };
        println!("{answer}");
    }
    Ok(())
}

fn obey(contestant: &mut impl Contestant, request: Request) -> Result<Value> {
    match request {
        Request::Prepare { op, inputs, output } => {
            let load = |file: File| Ok(Input { values: read(&file.path)?, shape: file.shape });
            let inputs = inputs.into_iter().map(load).collect::<Result<Vec<_>>>()?;
            std::fs::write(output, bytemuck::cast_slice(&contestant.prepare(&op, &inputs)?))?;
            Ok(json!({}))
        }
        Request::Run { times } => Ok(json!({ "seconds": contestant.run(times)? })),
        Request::Release => {
            contestant.release();
            Ok(json!({}))
        }
    }
}
