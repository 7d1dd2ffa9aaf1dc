"""What kind of network an address is in."""

import pytest

from manyhands.net.interfaces import interfaces, kind_of, reachable_addresses


@pytest.mark.parametrize(
    ("name", "address", "kind"),
    [
        ("lo", "127.0.0.1", "loopback"),
        ("eth0", "192.168.1.5", "lan"),
        ("wlp3s0", "10.0.0.7", "lan"),
        ("Ethernet 2", "192.168.1.5", "lan"),
        ("tailscale0", "100.101.102.103", "overlay"),
        ("Tailscale", "100.101.102.103", "overlay"),
        ("utun4", "100.101.102.103", "overlay"),
        ("eth1", "100.64.0.9", "overlay"),
        ("wg0", "10.9.0.2", "overlay"),
        ("ztabcdef12", "10.147.17.3", "overlay"),
        ("docker0", "172.17.0.1", "virtual"),
        ("br-0123456789ab", "172.18.0.1", "virtual"),
        ("virbr0", "192.168.122.1", "virtual"),
        ("vEthernet (WSL)", "172.20.0.1", "virtual"),
    ],
)
def test_a_network_is_known_by_its_name_and_address(name, address, kind):
    assert kind_of(name, address) == kind


def test_this_machine_has_itself_and_others_do_not_reach_that():
    here = interfaces()
    assert "127.0.0.1" in [one.address for one in here if one.kind == "loopback"]
    assert not any(address.startswith("127.") for address in reachable_addresses())
