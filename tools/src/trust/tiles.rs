//! `tiles`: the tree as static files (C2SP tlog-tiles). Entries are leaves, which commit to events and do not tell them.

use std::fs;
use std::io::Write;
use std::path::Path;

use chainring::{Position, Prover, Store};
use serde_json::json;

use super::cannot;
use crate::cli::Tiles;
use crate::output::{Answer, Failure, GOOD, Out, grouped};

/// Hashes in a whole tile, and levels of the tree that it spans.
const WIDTH: u64 = 256;
const STEP: u32 = 8;

/// Writes what is not there.
struct Mirror<'a> {
    prover: &'a Prover,
    directory: &'a Path,
    written: u64,
}

/// The number of a tile as a path: groups of three digits, all but the last with an x before them.
fn path_of(number: u64, width: u64) -> String {
    let mut path = format!("{:03}", number % 1000);
    let mut rest = number / 1000;
    while rest > 0 {
        path = format!("x{:03}/{path}", rest % 1000);
        rest /= 1000;
    }
    if width < WIDTH { format!("{path}.p/{width}") } else { path }
}

impl Mirror<'_> {
    fn put(&mut self, name: &str, content: impl FnOnce(&Prover) -> Result<Vec<u8>, Failure>) -> Result<(), Failure> {
        let path = self.directory.join(name);
        if path.exists() {
            return Ok(());
        }
        let content = content(self.prover)?;
        fs::create_dir_all(path.parent().expect("inside the directory")).map_err(cannot(&path))?;
        // What has its name is whole.
        let temporary = path.with_extension("tmp");
        fs::write(&temporary, content).and_then(|()| fs::rename(&temporary, &path)).map_err(cannot(&path))?;
        self.written += 1;
        Ok(())
    }

    /// One row of tiles, over `count` hashes.
    fn row(&mut self, level: u32, count: u64) -> Result<(), Failure> {
        for number in 0..count.div_ceil(WIDTH) {
            let width = WIDTH.min(count - number * WIDTH);
            let path = path_of(number, width);
            self.put(&format!("tile/{level}/{path}"), |prover| {
                Ok(prover.hashes(level * STEP, number * WIDTH, width)?.as_flattened().to_vec())
            })?;
            if level == 0 {
                self.put(&format!("tile/entries/{path}"), |prover| {
                    let mut entries = Vec::new();
                    for position in number * WIDTH..number * WIDTH + width {
                        let leaf = prover.leaf(Position(position))?;
                        entries.extend((leaf.len() as u16).to_be_bytes());
                        entries.extend(leaf);
                    }
                    Ok(entries)
                })?;
            }
        }
        Ok(())
    }
}

/// The command.
pub(crate) fn run(path: &Path, args: &Tiles, out: &mut Out) -> Answer {
    let store = Store::open(path)?;
    let prover = store.prover()?;
    let size = prover.head().size;
    let mut mirror = Mirror { prover: &prover, directory: &args.to, written: 0 };
    let (mut level, mut count) = (0, size);
    while count > 0 {
        mirror.row(level, count)?;
        level += 1;
        count /= WIDTH;
    }
    // Last: whoever sees it finds everything it is over.
    let (checkpoint, temporary) = (args.to.join("checkpoint"), args.to.join("checkpoint.tmp"));
    fs::write(&temporary, prover.checkpoint()).and_then(|()| fs::rename(&temporary, &checkpoint)).map_err(cannot(&checkpoint))?;
    let written = mirror.written + 1;
    if out.json {
        writeln!(out, "{}", json!({ "ok": true, "size": size, "written": written }))?;
    } else {
        let done = out.paint(GOOD, "wrote").into_owned();
        writeln!(out, "{done} {} files for the first {} records", grouped(written), grouped(size))?;
    }
    out.flush()?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::path_of;

    #[test]
    fn paths_are_those_of_tlog_tiles() {
        assert_eq!(path_of(0, 256), "000");
        assert_eq!(path_of(1_234_067, 256), "x001/x234/067");
        assert_eq!(path_of(1000, 17), "x001/000.p/17");
    }
}
