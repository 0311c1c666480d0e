"""Addresses of the lab that tests refer to; topology.py shows where they are."""

SERVER = "203.0.113.80"
SERVER_ALT = "203.0.113.81"
SERVER_DNS = "203.0.113.53"
SERVER6 = "2001:db8:ffff::80"
SERVER6_DNS = "2001:db8:ffff::53"
DNS64 = "2001:db8:1::1"
NAS = "10.77.0.1"
ONE_ADDRESS = "2001:db8:2::128"
BARE_ADDRESS = "2001:db8:3::2"
DUAL_ADDRESS = "198.51.100.10"
NATIVE_HOP = "192.0.0.8"
HOPS_BEHIND_NAT64 = ("192.0.2.65", "192.0.2.66", "192.0.2.6")
