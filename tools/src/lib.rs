//! `chainring`: the command line of Chainring.
//!
//! Every command but `init`, `import` and `pack`, and `demo` and `bench`, which bring their own logs, only reads `--log`: it works on a log whose writer was killed, and shows what recovery would keep.
//! Exit codes: 0 done or yes, 1 the answer is no, 2 typed wrongly, 3 could not be done.

mod backup;
mod bench;
mod cli;
mod decision;
mod demo;
mod export;
mod find;
mod fold;
mod form;
mod fsck;
#[doc(hidden)]
pub mod fuzzing;
mod history;
mod import;
mod init;
mod output;
mod pack;
mod rawjson;
mod reindex;
mod salvage;
mod show;
mod state;
mod time;
mod trust;
mod verdict;
mod verify;

use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};

use cli::{Cli, Command, Common, Keys, KeysAction};
use output::{Answer, Out, conclude};

/// The program: reads the command line, does what it says, and gives the exit code.
#[must_use]
pub fn run_program() -> ExitCode {
    let Cli { common: Common { log, json }, command } = Cli::parse();
    // These need no log.
    match &command {
        Command::Demo(args) => return conclude(demo::run(args.keep.as_deref(), json, &mut anstream::stdout().lock())),
        Command::Bench(args) => return conclude(bench::run(args, &mut Out::new(json))),
        Command::Check(args) => return conclude(trust::check::run(args, &mut Out::new(json))),
        Command::Keys(Keys { action: action @ (KeysAction::Generate { name: Some(_), .. } | KeysAction::Show { .. }) }) => {
            return conclude(trust::keys::without_log(action, &mut Out::new(json)));
        }
        _ => {}
    }
    let Some(log) = log.filter(|log| !log.as_os_str().is_empty()) else {
        Cli::command().error(ErrorKind::MissingRequiredArgument, "which log? Give --log DIR, or set CHAINRING_LOG").exit();
    };
    conclude(run(&command, &log, &mut Out::new(json)))
}

fn run(command: &Command, log: &std::path::Path, out: &mut Out) -> Answer {
    match command {
        Command::Init(args) => init::run(log, args, out),
        Command::Import(args) => import::run(log, args, out),
        Command::Export(args) => export::run(log, args, out),
        Command::State(args) => state::run(log, args, out),
        Command::History(args) => history::history(log, args, out),
        Command::Diff(args) => history::diff(log, args, out),
        Command::Find(args) => find::run(log, args, out),
        Command::Explain(args) => decision::explain::run(log, args, out),
        Command::Dependents(args) => decision::dependents::run(log, args, out),
        Command::UndoPlan(args) => decision::undo::run(log, args, out),
        Command::Compensate(args) => decision::compensate::run(log, args, out),
        Command::AuthorisedBy(args) => decision::authority::authorised_by(log, args, out),
        Command::WrongAuthority(args) => decision::authority::wrong(log, args, out),
        Command::ReAdmit(args) => decision::authority::re_admit(log, args, out),
        Command::Attempts(args) => decision::conduct::attempts(log, args, out),
        Command::Run(args) => decision::run::run(log, args, out),
        Command::OpenIntents => decision::conduct::open_intents(log, out),
        Command::Scope(args) => decision::conduct::scope(log, args, out),
        Command::Streams(args) => show::streams(log, args, out),
        Command::Cat(args) => show::cat(log, args, out),
        Command::Tail(args) => show::tail(log, args, out),
        Command::Info => show::info(log, out),
        Command::Pack => pack::run(log, out),
        Command::Reindex => reindex::run(log, out),
        Command::Backup(args) => backup::run(log, args, out),
        Command::Verify(args) => verify::run(log, args, out),
        Command::Fsck => fsck::run(log, out),
        Command::Salvage(args) => salvage::run(log, args, out),
        Command::Keys(args) => trust::keys::run(log, args, out),
        Command::Checkpoint(args) => trust::checkpoint::run(log, args, out),
        Command::Anchor(args) => trust::anchor::run(log, args, out),
        Command::Tiles(args) => trust::tiles::run(log, args, out),
        Command::Prove(args) => trust::prove::run(log, args, out),
        Command::Demo(_) | Command::Bench(_) | Command::Check(_) => unreachable!("was run before a log was asked for"),
    }
}
