//! Front-ends: each translates one dialect.
