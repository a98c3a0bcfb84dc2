//! What a terminal shows while a long statement is at work in the server: which one it is.

use crate::support::{CONFIG, Rehearsal};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// A command with its stderr on a terminal, and what the terminal was sent until now.
struct OnTerminal {
    child: Child,
    shown: Arc<Mutex<Vec<u8>>>,
}

impl OnTerminal {
    fn start(mut command: Command) -> OnTerminal {
        let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&terminal).unwrap();
        unlockpt(&terminal).unwrap();
        tcsetwinsize(&terminal, Winsize { ws_row: 50, ws_col: 100, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
        let name = ptsname(&terminal, Vec::new()).unwrap();
        let stderr = File::options().write(true).open(Path::new(name.to_str().unwrap())).unwrap();
        let child = command.env("TERM", "xterm").stdout(Stdio::null()).stderr(stderr).spawn().unwrap();
        let shown = Arc::new(Mutex::new(Vec::new()));
        let (mut terminal, to) = (File::from(terminal), Arc::clone(&shown));
        std::thread::spawn(move || {
            let mut block = [0; 4096];
            while let Ok(n @ 1..) = terminal.read(&mut block) {
                to.lock().unwrap().extend_from_slice(&block[..n]);
            }
        });
        OnTerminal { child, shown }
    }

    fn shown(&self) -> String {
        let shown = String::from_utf8_lossy(&self.shown.lock().unwrap()).into_owned();
        anstream::adapter::strip_str(&shown).to_string()
    }

    /// Waits until the terminal shows a text.
    #[track_caller]
    fn wait_for(&self, text: &str) {
        let begun = Instant::now();
        while !self.shown().contains(text) {
            assert!(
                begun.elapsed() < Duration::from_secs(20),
                "{text:?} is not shown, but {:?}",
                self.shown()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

#[test]
fn a_terminal_shows_which_step_of_an_import_takes_so_long() {
    let r = Rehearsal::postgres(12).rewrapped();
    let waits = |key: u32| {
        format!(
            "CREATE FUNCTION waits_{key}() RETURNS trigger LANGUAGE plpgsql
             AS $$ BEGIN PERFORM pg_advisory_xact_lock({key}); RETURN NEW; END $$;"
        )
    };
    // Something to wait for in the update, in what is deferred until the read-back, and at the commit.
    r.sql(&format!(
        "{} {} {}
         CREATE TRIGGER a BEFORE UPDATE ON {CONFIG} FOR EACH STATEMENT EXECUTE FUNCTION waits_1();
         CREATE CONSTRAINT TRIGGER b AFTER UPDATE ON {CONFIG} DEFERRABLE INITIALLY DEFERRED
             FOR EACH ROW EXECUTE FUNCTION waits_2();
         CREATE TABLE late (id text);
         CREATE CONSTRAINT TRIGGER c AFTER INSERT ON late DEFERRABLE FOR EACH ROW EXECUTE FUNCTION waits_3();
         CREATE FUNCTION defers() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             SET CONSTRAINTS c DEFERRED; INSERT INTO late VALUES (NEW.organization_id); RETURN NEW; END $$;
         CREATE CONSTRAINT TRIGGER d AFTER UPDATE ON tenants DEFERRABLE INITIALLY DEFERRED
             FOR EACH ROW EXECUTE FUNCTION defers()",
        waits(1),
        waits(2),
        waits(3)
    ));
    let mut row = r.session();
    row.run(&format!("BEGIN; SELECT FROM {CONFIG} WHERE organization_id = '{}' FOR UPDATE", r.ids()[3]));
    let mut holder = r.session();
    holder.run("SELECT pg_advisory_lock(n) FROM generate_series(1, 3) n");
    let mut import = OnTerminal::start(r.import_command("--lock-timeout 60"));
    import.wait_for("comparing: 0/");
    assert!(!import.shown().contains("writing"), "{}", import.shown());
    row.run("COMMIT");
    import.wait_for("writing: 0/");
    assert!(!import.shown().contains("reading back"), "{}", import.shown());
    holder.run("SELECT pg_advisory_unlock(1)");
    import.wait_for("reading back: ");
    assert!(!import.shown().contains("committing"), "{}", import.shown());
    holder.run("SELECT pg_advisory_unlock(2)");
    import.wait_for("committing: ");
    holder.run("SELECT pg_advisory_unlock(3)");
    assert!(import.child.wait().unwrap().success(), "{}", import.shown());
}
