//! What an import costs follows the rows that change, and not the table: counted by the server,
//! not timed.

use crate::cluster::Cluster;
use crate::folder::Site;
use crate::support::{CONFIG, Rehearsal, counts, envelope};
use rekek::row::Sha256Digest;
use std::fmt::Write as _;

const ROWS: u64 = 100_000;
const CHANGED: u64 = 1_000;

/// The trap: the planner takes the digests for join keys and computes them for the whole table.
/// Every read of a row of the table is counted here, whichever way the plan goes.
#[test]
fn a_thousand_rows_in_a_table_of_a_hundred_thousand() {
    let cluster = Cluster::shared();
    let database = cluster.database(None);
    let r = Rehearsal { folder: Site::empty(), cluster, url: cluster.url(&database), database };
    r.site("init").good();
    r.sql(&format!(
        "INSERT INTO tenants SELECT 'org-' || to_char(i, 'FM0000000'), 'n', 'V1-T1' FROM generate_series(1, {ROWS}) i;
         INSERT INTO {CONFIG} (organization_id, issuer, default_audience, allowed_audiences, token_ttl_sec, subject_prefix,
             encrypted_signing_key_1, encrypted_signing_key_2)
         SELECT organization_id, 'i', 'd', '[]', 1, 's', 'one of ' || organization_id, 'two of ' || organization_id
         FROM tenants;
         ANALYZE"
    ));
    let mut file = String::from(
        "organization_id,encrypted_signing_key_1,encrypted_signing_key_2,encrypted_auth_method_config,\
         source_sha256_signing_key_1,source_sha256_signing_key_2,source_sha256_auth_method_config\n",
    );
    let envelope = envelope("kv2", 40);
    for i in 1..=ROWS {
        let id = format!("org-{i:07}");
        let (one, two) = (format!("one of {id}"), format!("two of {id}"));
        let digests = [&one, &two].map(Sha256Digest::of);
        let one = if i % (ROWS / CHANGED) == 0 { &envelope } else { &one };
        writeln!(file, "{id},{one},{two},,{},{},", digests[0], digests[1]).unwrap();
    }
    r.folder.write("out.csv", &file);
    r.vouch_for("out.csv", ROWS);
    r.folder.write("site.toml", "machine_identity.current_encryption_key_id = 'kv2'");

    // Rows read, by either way, as the server counted them until now.
    let read = |table: &str| -> u64 {
        let counted = "SELECT sum(seq_tup_read) + sum(coalesce(idx_tup_fetch, 0)) FROM pg_stat_user_tables";
        r.value(&format!("{counted} WHERE relname = '{table}'")).parse().unwrap()
    };
    let settled = |table: &str| {
        // A session's counters reach the others when it ends, or a second later.
        let mut last = read(table);
        for _ in 0..50 {
            std::thread::sleep(std::time::Duration::from_millis(300));
            let now = read(table);
            if now == last {
                break;
            }
            last = now;
        }
        last
    };
    for batches in ["", "--batch-rows 300"] {
        let before = [CONFIG, "tenants"].map(settled);
        let ran = r.import(batches);
        assert_eq!((ran.status, counts(&ran)), (0, [CHANGED, 0, ROWS - CHANGED, 0]), "{}", ran.stderr);
        let after = [CONFIG, "tenants"].map(settled);
        for (before, after) in before.iter().zip(after) {
            let reads = after - before;
            // Lock, compare (twice in batches), update, read back: a handful of reads a row.
            assert!(
                (CHANGED..=8 * CHANGED).contains(&reads),
                "{batches}: {reads} rows read for {CHANGED} changed"
            );
        }
        r.sql(&format!("UPDATE {CONFIG} SET encrypted_signing_key_1 = 'one of ' || organization_id WHERE encrypted_signing_key_1 LIKE 'ey%'"));
    }
}
