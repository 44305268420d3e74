//! Tests of single rules, and a simulation of everything together.

mod builders;
mod controllers;
mod data;
mod extend;
mod faults;
mod import;
mod inheritance;
mod kept;
mod latency;
mod leases;
mod lifecycle;
mod retry;
mod rooms;
mod rungs;
mod scheduling;
mod screening;
mod simulation;
mod studies;
mod tables;
mod trials;
mod views;
