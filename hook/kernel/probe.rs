//! Finds facts, judges nothing.
