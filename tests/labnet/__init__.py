"""The v4shim lab: an IPv6-only access network in network namespaces.

topology.py   what is built (drawn there) and its parameters
addresses.py  who has which address
netns.py      namespaces, processes and their records, clean-up
daemons.py    radvd, unbound, TAYGA: configuration and start
ra.py         router advertisements from a script, for what radvd will not send
servers.py    web, echo and upload servers of the far side
clatd.py      starting, watching and ending the program under test
snapshot.py   the network state of a host, comparable byte by byte
probes.py     packets that no ordinary tool sends; packets.py builds the raw ones
runner.py     the test runner and its conventions

Everything is Python's standard library and Debian packages (see tests/install).
"""
