//! Vocabularies and reflection tokens.
