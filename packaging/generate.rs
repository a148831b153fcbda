//! Writes what the packages carry beside the program into a directory: the man pages of section 8
//! and the completions, from the command line's type; the other pages as they are.
//!
//! `cargo run --example generate -- DIR`: an example, so that the program itself carries no roff.

use std::path::{Path, PathBuf};
use std::{env, fs, io};

use clap::{Command, CommandFactory as _};
use clap_complete::Shell;
use clap_mangen::Man;
use oci_netkit::roles::cli::args::Cli;

const PROSE: &str = include_str!("man/oci-netkit.8.prose");
const PAGES: [(&str, &str); 2] = [
    (
        "oci-netkit-annotations.5",
        include_str!("man/oci-netkit-annotations.5"),
    ),
    ("oci-netkit.toml.5", include_str!("man/oci-netkit.toml.5")),
];

fn main() -> io::Result<()> {
    let dir = env::args_os().nth(1).map(PathBuf::from);
    let dir = dir.ok_or_else(|| io::Error::other("usage: generate DIR"))?;
    fs::create_dir_all(&dir)?;
    for (name, text) in man_pages()? {
        fs::write(dir.join(name), text)?;
    }
    completions(&dir)
}

/// Names of files and their text.
pub fn man_pages() -> io::Result<Vec<(String, String)>> {
    let mut command = Cli::command().disable_help_subcommand(true);
    command.build();
    let mut pages = PAGES.map(|(n, t)| (n.to_owned(), t.to_owned())).to_vec();
    of_command(&command, "oci-netkit", &mut pages)?;
    Ok(pages)
}

fn of_command(command: &Command, name: &str, pages: &mut Vec<(String, String)>) -> io::Result<()> {
    let is_whole = name == "oci-netkit";
    // Leaked as clap wants names that live for ever; this program does not.
    let called: &'static str = name.to_owned().leak();
    let man = Man::new(command.clone().name(called).version(None::<&str>))
        .title(name.to_uppercase())
        .section("8")
        .source("oci-netkit")
        .manual("System Manager's Manual");
    let mut text = Vec::new();
    man.render(&mut text)?;
    let mut text = String::from_utf8(text).map_err(io::Error::other)?;
    text.push_str(if is_whole {
        PROSE
    } else {
        ".SH \"SEE ALSO\"\n.BR oci\\-netkit (8)\n"
    });
    pages.push((format!("{name}.8"), text));
    for inner in command.get_subcommands().filter(|c| !c.is_hide_set()) {
        of_command(inner, &format!("{name}-{}", inner.get_name()), pages)?;
    }
    Ok(())
}

fn completions(dir: &Path) -> io::Result<()> {
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        clap_complete::generate_to(shell, &mut Cli::command(), "oci-netkit", dir)?;
    }
    Ok(())
}
