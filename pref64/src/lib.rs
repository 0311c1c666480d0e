//! Where is the NAT64?
