//! Goal: no input that a fuzzer kept, or a person wrote down, breaks a target today.

use std::fs;
use std::path::Path;

use cubed_fuzz::TARGETS;

#[test]
fn every_kept_input_passes() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for (name, target) in TARGETS {
        let entries = fs::read_dir(corpus.join(name)).expect("each target has a corpus");
        let mut count = 0;
        for entry in entries {
            let path = entry.expect("the corpus is readable").path();
            let data = fs::read(&path).expect("the corpus is readable");
            println!("{}", path.display());
            target(&data);
            count += 1;
        }
        assert!(count > 0, "the corpus of {name} is empty");
    }
}
