//! Shared types and pure decisions.
#![no_std]
