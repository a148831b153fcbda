//! Opens, enters and always leaves a network namespace.
