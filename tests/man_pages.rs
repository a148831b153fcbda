//! The man pages say all there is: every command, option, annotation and config key.

// Its main is the program's.
#[allow(dead_code, reason = "the test needs no files")]
#[allow(unreachable_pub, reason = "a program, of which the test takes a part")]
#[path = "../packaging/generate.rs"]
mod generate;

use std::collections::BTreeMap;

use clap::CommandFactory as _;
use oci_netkit::annotations;
use oci_netkit::roles::cli::args::Cli;

fn pages() -> BTreeMap<String, String> {
    let pages = generate::man_pages().expect("the pages");
    // As a reader sees it: a hyphen is written `\-`.
    let plain = |(name, text): (String, String)| (name, text.replace("\\-", "-"));
    pages.into_iter().map(plain).collect()
}

#[test]
fn every_command_has_a_page_with_its_options() {
    let pages = pages();
    let mut waiting = vec![("oci-netkit".to_owned(), Cli::command())];
    let mut seen = 0;
    while let Some((name, command)) = waiting.pop() {
        let page = pages
            .get(&format!("{name}.8"))
            .unwrap_or_else(|| panic!("no page {name}.8 in {:?}", pages.keys()));
        for option in command.get_arguments().filter(|a| !a.is_hide_set()) {
            if let Some(long) = option.get_long() {
                assert!(page.contains(&format!("--{long}")), "--{long} in {name}.8");
            }
        }
        for inner in command.get_subcommands() {
            let inner_name = format!("{name}-{}", inner.get_name());
            assert!(
                page.contains(&format!("{inner_name}(8)")),
                "{inner_name} in {name}.8"
            );
            waiting.push((inner_name, inner.clone()));
        }
        seen += 1;
    }
    assert!(seen >= 15, "{seen} commands");
}

#[test]
fn every_annotation_has_its_entry() {
    let page = &pages()["oci-netkit-annotations.5"];
    for key in annotations::KEYS {
        let entry = format!(".TP\n.B {key}\n");
        assert!(page.contains(&entry), "{key}");
    }
}

#[test]
fn every_key_of_the_sample_config_has_its_entry() {
    let page = &pages()["oci-netkit.toml.5"];
    let sample = include_str!("../config/config.toml");
    let mut seen = 0;
    for line in sample.lines().filter_map(|l| l.strip_prefix('#')) {
        let entry = if line.starts_with('[') {
            let table = line.replace("profile.default", "profile.NAME");
            format!(".SS \"{}\"\n", table.replace("profile.web", "profile.NAME"))
        } else if let Some((key, _)) = line.split_once(" = ")
            && !key.starts_with(' ')
        {
            format!(".TP\n.BI \"{key} = ")
        } else {
            continue;
        };
        assert!(page.contains(&entry), "{entry}");
        seen += 1;
    }
    assert!(seen > 12, "{seen} keys");
}

#[test]
fn every_exit_status_is_there() {
    let page = &pages()["oci-netkit.8"];
    for code in [0, 1, 64, 65, 69, 70, 71, 73, 75, 77, 78] {
        assert!(page.contains(&format!(".TP\n.B {code}\n")), "{code}");
    }
}
