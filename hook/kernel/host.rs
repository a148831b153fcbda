//! Runs one step or undo of the plan on the real kernel.
