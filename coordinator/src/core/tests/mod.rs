//! Rules, one by one, and a simulation of everything at once.
