"""Jobs in this process to be followed."""

from support.fixtures import loopback as loopback
