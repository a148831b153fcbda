//! Runs a plan's steps in order and takes them back newest first.
