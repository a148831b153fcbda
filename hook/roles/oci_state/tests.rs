use std::path::PathBuf;

use super::*;

fn state(extra: &str) -> String {
    format!(r#"{{"ociVersion":"1.0","id":"c1","status":"created","bundle":"/b"{extra}}}"#)
}

fn refusal(text: &str, stage: Stage) -> String {
    let error = parse(text.as_bytes(), stage).unwrap_err();
    assert_eq!(error.kind(), Kind::BadInput);
    error.report()
}

#[test]
fn crun_and_runc_states_are_both_accepted() {
    let crun =
        state(r#","pid":7,"root":"/r","annotations":{"io.oci-netkit.address":"auto","x":"y"}"#);
    let request = parse(crun.as_bytes(), Stage::Create).unwrap();
    assert_eq!(request.pid, 7);
    assert_eq!(
        request.keys.into_iter().collect::<Vec<_>>(),
        [("address".into(), "auto".into())]
    );

    let runc = crun
        .replace("created", "creating")
        .replace("\"1.0\"", "\"1.0.2-dev\"");
    assert_eq!(
        parse(runc.as_bytes(), Stage::Create).unwrap().bundle,
        PathBuf::from("/b")
    );
}

#[test]
fn poststop_needs_no_pid_and_takes_crun_s_zero() {
    for pid in ["", ",\"pid\":0"] {
        let text = state(pid).replace("created", "stopped");
        assert_eq!(parse(text.as_bytes(), Stage::Poststop).unwrap().pid, 0);
    }
}

#[test]
fn create_needs_a_pid_that_can_be_one() {
    assert!(refusal(&state(""), Stage::Create).contains("pid is missing"));
    for pid in ["0", "-1", "4294967297"] {
        let text = state(&format!(",\"pid\":{pid}"));
        assert!(
            refusal(&text, Stage::Create).contains("no process"),
            "{pid}"
        );
    }
}

#[test]
fn the_status_must_fit_the_stage() {
    let created = state(",\"pid\":7");
    assert!(refusal(&created, Stage::Poststop).contains("not one of the poststop stage"));
    let stopped = created.replace("created", "stopped");
    assert!(refusal(&stopped, Stage::Create).contains("not one of the create stage"));
    assert!(refusal(&stopped, Stage::Create).contains("a checkpoint cannot be restored"));
    assert!(
        refusal(
            &created.replace("\"created\"", "\"paused?\""),
            Stage::Create
        )
        .contains("paused")
    );
}

#[test]
fn a_missing_status_or_id_is_not_filled_in() {
    let text = r#"{"ociVersion":"1.0","id":"c1","pid":7,"bundle":"/b"}"#;
    assert!(refusal(text, Stage::Create).contains("missing field `status`"));
    let text = r#"{"ociVersion":"1.0","status":"created","pid":7,"bundle":"/b"}"#;
    assert!(refusal(text, Stage::Create).contains("missing field `id`"));
}

#[test]
fn an_id_that_climbs_out_is_refused() {
    for id in ["../x", "", "a/b", ".hidden", "a b", &"x".repeat(129)] {
        let text = state(",\"pid\":7").replace("c1", id);
        assert!(
            refusal(&text, Stage::Create).contains("container id"),
            "{id}"
        );
    }
}

#[test]
fn duplicates_and_trailing_data_are_refused() {
    let twice =
        state(r#","pid":7,"annotations":{"io.oci-netkit.egress":"","io.oci-netkit.egress":"any"}"#);
    assert!(refusal(&twice, Stage::Create).contains("stands twice"));
    assert!(refusal(&state(",\"pid\":7,\"pid\":8"), Stage::Create).contains("duplicate field"));
    assert!(refusal(&format!("{} {{}}", state(",\"pid\":7")), Stage::Create).contains("trailing"));
    assert!(refusal("[]", Stage::Create).contains("container state"));
    assert!(refusal("", Stage::Create).contains("EOF"));
}

#[test]
fn deep_nesting_cannot_exhaust_the_stack() {
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let unknown = state(&format!(",\"pid\":7,\"x\":{deep}"));
    assert!(
        parse(unknown.as_bytes(), Stage::Create).is_ok(),
        "skipped without recursion"
    );
    let known = state(&format!(",\"pid\":7,\"annotations\":{deep}"));
    assert!(refusal(&known, Stage::Create).contains("an object of strings"));
}
