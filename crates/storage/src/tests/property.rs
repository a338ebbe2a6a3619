//! Whatever the batches, the engine shows what the model shows, across restarts too.

use super::model::{Workload, receive_all};
use crate::{DiskOptions, Engine as _, open_disk, scrub};
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn the_engine_shows_what_the_model_shows(
        seed in any::<u64>(),
        batches in 1usize..60,
        // Small enough that a filling takes a few batches.
        journal_kibibytes in 8u64..64,
        restart_every in 1usize..20,
    ) {
        let dir = tempfile::tempdir().unwrap();
        let options = DiskOptions {
            cache_bytes: 1 << 20,
            journal_bytes: journal_kibibytes << 10,
            reserve_bytes: 0,
        };
        let mut engine = open_disk(dir.path(), options).unwrap();
        let mut workload = Workload::new(seed);
        for number in 1..=batches {
            let batch = workload.next_batch();
            receive_all(&engine, &batch);
            engine.apply(&batch).unwrap();
            if number % restart_every == 0 {
                drop(engine);
                engine = open_disk(dir.path(), options).unwrap();
            }
            if number % 5 == 0 {
                workload.model.assert_shown_by(&engine);
            }
        }
        workload.model.assert_shown_by(&engine);
        let report = scrub(&engine, &mut |_| {}).unwrap();
        prop_assert_eq!(&report.findings, &[]);
        prop_assert_eq!(report.orphans_count, 0);
        prop_assert_eq!(report.large_bodies, workload.model.stages().len() as u64);
    }
}
