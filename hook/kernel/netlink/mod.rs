//! rtnetlink, one file per object kind.
