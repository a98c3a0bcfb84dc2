//! What `--version` says: which code this is, and what was built into it.

/// The version, the commit that it was built from where git could tell, the features, the system.
pub const LONG: &str = concat!(
    env!("CARGO_PKG_VERSION"),
    "\ncommit    ",
    env!("REKEK_COMMIT"),
    "\nfeatures  ",
    env!("REKEK_FEATURES"),
    "\ntarget    ",
    env!("REKEK_TARGET"),
);
