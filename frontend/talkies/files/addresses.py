"""The guard of downloads: which network addresses may be connected to.

Addresses that carry an IPv4 address in them (IPv4-mapped, NAT64, 6to4, Teredo) are judged by that one too.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network

_NAT64 = IPv6Network("64:ff9b::/96")
_SITE_LOCAL = IPv6Network("fec0::/10")
_ALWAYS_REFUSED = tuple(
    ip_network(network)
    for network in (
        "169.254.0.0/16",
        "fe80::/10",
        # Metadata and host services of clouds at addresses that are not link-local.
        "fd00:ec2::254/128",
        "fd20:ce::254/128",
        "100.100.100.200/32",
        "192.0.0.192/32",
        "168.63.129.16/32",
    )
)


def is_allowed(address: str, *, public_only: bool) -> bool:
    """Whether downloads may connect to this numeric address.

    Link-local addresses and those where clouds serve metadata never are; with `public_only`, neither is one that is
    private, loopback, multicast, reserved or unspecified.
    """
    for ip in _meanings(ip_address(address)):
        if any(ip in network for network in _ALWAYS_REFUSED):
            return False
        if public_only and (not ip.is_global or ip.is_multicast or ip.is_reserved or ip in _SITE_LOCAL):
            return False
    return True


def _meanings(ip: IPv4Address | IPv6Address) -> Iterator[IPv4Address | IPv6Address]:
    """Every address that a packet to `ip` may reach."""
    if isinstance(ip, IPv4Address):
        yield ip
        return
    ip = IPv6Address(int(ip))  # without its zone
    low = IPv4Address(int(ip) & 0xFFFF_FFFF)
    if ip.ipv4_mapped or ip in _NAT64:
        yield low  # the prefix is no place of its own
        return
    yield ip
    if not int(ip) >> 32:  # IPv4-compatible
        yield low
    if ip.sixtofour:
        yield ip.sixtofour
    if ip.teredo:
        yield from ip.teredo
