//! What is said of a fleet and of each of its sites.

use super::SiteName;
use crate::report::{RewrapCounts, RewrapReport};
use serde::{Deserialize, Serialize};

/// How it ended for a site.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SiteOutcome {
    /// Every envelope is under the target key (in a dry run: it would be).
    Done,
    /// So it was already: nothing was to be done.
    DoneBefore,
    /// It ran to the end, and rows failed.
    RowsFailed,
    /// It could not be done.
    NotDone,
    /// The fleet was stopped in it or before it.
    NotReached,
}

/// The report of one site.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SiteReport {
    /// The site.
    pub site: SiteName,
    /// How it ended.
    pub outcome: SiteOutcome,
    /// Why it could not be done, or what is to be done about it.
    pub error: Option<String>,
    /// The target key's fingerprint, as far as it came to that.
    pub target_key_fingerprint: Option<String>,
    /// The report of the re-wrap; of an earlier one where the site was done before.
    pub report: Option<RewrapReport>,
}

/// The sites of a fleet by outcome. They always add up to `sites`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SiteCounts {
    /// Sites of the plan.
    pub sites: u64,
    /// See [`SiteOutcome::Done`].
    pub sites_done: u64,
    /// See [`SiteOutcome::DoneBefore`].
    pub sites_done_before: u64,
    /// See [`SiteOutcome::RowsFailed`].
    pub sites_with_failed_rows: u64,
    /// See [`SiteOutcome::NotDone`].
    pub sites_not_done: u64,
    /// See [`SiteOutcome::NotReached`].
    pub sites_not_reached: u64,
}

/// The report of `rekek fleet`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FleetReport {
    /// Always `fleet`.
    pub command: String,
    /// Whether it was a dry run, which writes no output.
    pub dry_run: bool,
    /// The plan, or the folder, as it was given.
    pub plan: String,
    /// The sites by outcome.
    #[serde(flatten)]
    pub sites: SiteCounts,
    /// The sums of the sites' counters, those that were done before included. (There is none by
    /// source key: one id means another key at each site.)
    #[serde(flatten)]
    pub counts: RewrapCounts,
    /// From the first site to the last.
    pub elapsed_seconds: f64,
    /// Threads that worked.
    pub threads: usize,
    /// Every site, in the order of the plan.
    pub site_reports: Vec<SiteReport>,
}

impl FleetReport {
    /// Sums the sites up.
    pub fn new(
        plan: String,
        dry_run: bool,
        threads: usize,
        elapsed_seconds: f64,
        site_reports: Vec<SiteReport>,
    ) -> Self {
        let mut sites = SiteCounts { sites: site_reports.len() as u64, ..SiteCounts::default() };
        let mut counts = RewrapCounts::default();
        for site in &site_reports {
            *match site.outcome {
                SiteOutcome::Done => &mut sites.sites_done,
                SiteOutcome::DoneBefore => &mut sites.sites_done_before,
                SiteOutcome::RowsFailed => &mut sites.sites_with_failed_rows,
                SiteOutcome::NotDone => &mut sites.sites_not_done,
                SiteOutcome::NotReached => &mut sites.sites_not_reached,
            } += 1;
            if let Some(report) = &site.report {
                counts += &report.counts;
            }
        }
        FleetReport {
            command: "fleet".into(),
            dry_run,
            plan,
            sites,
            counts,
            elapsed_seconds,
            threads,
            site_reports,
        }
    }
}
