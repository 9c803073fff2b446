//! The firstack appliance.
