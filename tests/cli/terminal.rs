//! A real terminal for a program that asks something on it, while its own streams are whatever
//! they are. (`script`, of util-linux, makes the terminal: what is written to it is typed, what it
//! prints was shown.)

use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

pub struct Terminal {
    script: Child,
    typed: ChildStdin,
    screen: ChildStdout,
    shown: Vec<u8>,
    streams: tempfile::TempDir,
}

/// How a program on a terminal ended.
pub struct Ended {
    pub status: i32,
    pub stdout: String,
    pub stderr: String,
    /// All that the terminal showed.
    pub shown: String,
    /// Whether it shows again what is typed.
    pub echoes: bool,
}

impl Terminal {
    /// Starts a program on a terminal, with its standard input from a file.
    pub fn start(command: &Command, stdin: &str) -> Terminal {
        let streams = tempfile::tempdir().unwrap();
        let mut words = vec![command.get_program().to_str().unwrap()];
        words.extend(command.get_args().map(|word| word.to_str().unwrap()));
        let at = streams.path().display();
        // None of the words has a quote.
        let words: Vec<_> = words.iter().map(|word| format!("'{word}'")).collect();
        let line = format!(
            "trap : INT; {} <{stdin} >{at}/out 2>{at}/err; echo $? >{at}/status; stty -a >{at}/terminal",
            words.join(" ")
        );
        let mut script = Command::new("script");
        script.args(["--quiet", "--command", &line, "/dev/null"]).env("SHELL", "/bin/sh");
        script.current_dir(command.get_current_dir().unwrap());
        let mut script = script.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (typed, screen) = (script.stdin.take().unwrap(), script.stdout.take().unwrap());
        Terminal { script, typed, screen, shown: vec![], streams }
    }

    /// Reads until the terminal shows a text.
    #[track_caller]
    pub fn wait_for(&mut self, text: &str) {
        while !String::from_utf8_lossy(&self.shown).contains(text) {
            let mut block = [0; 4096];
            let n = self.screen.read(&mut block).unwrap();
            self.shown.extend(&block[..n]);
            assert!(n > 0, "{text:?} was not shown, but {:?}", String::from_utf8_lossy(&self.shown));
        }
    }

    pub fn type_in(&mut self, keys: &str) {
        self.typed.write_all(keys.as_bytes()).unwrap();
        self.typed.flush().unwrap();
    }

    /// Waits for the program's end.
    pub fn end(mut self) -> Ended {
        self.screen.read_to_end(&mut self.shown).unwrap();
        assert!(self.script.wait().unwrap().success());
        let read = |name: &str| read(&self.streams.path().join(name));
        Ended {
            status: read("status").trim().parse().unwrap(),
            stdout: read("out"),
            stderr: read("err"),
            shown: String::from_utf8_lossy(&self.shown).into_owned(),
            echoes: read("terminal").split_whitespace().any(|word| word == "echo"),
        }
    }
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}
