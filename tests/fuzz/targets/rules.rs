//! Rules: what is read is printed so that it reads the same again, and none is there twice.
#![no_main]

use libfuzzer_sys::fuzz_target;
use oci_netkit::plan::rules::RuleSet;

fuzz_target!(|text: &str| {
    let Ok(set) = RuleSet::parse(text) else {
        return;
    };
    let again = RuleSet::from_texts(&set.texts()).expect("its own texts");
    assert_eq!(set.rules().len(), again.rules().len());
    for (one, other) in set.rules().iter().zip(again.rules()) {
        assert!(one.says_same(other), "{one} {other}");
    }
    for (at, rule) in set.rules().iter().enumerate() {
        assert!(set.rules()[..at].iter().all(|r| !r.says_same(rule)), "{rule}");
    }
});
