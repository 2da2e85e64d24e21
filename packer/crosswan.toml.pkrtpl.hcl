# Baked by Packer. A file in /etc/crosswan/conf.d, written by user data, overrides what is here. No secret is ever baked.
mode = ${jsonencode(mode)}
private_net = ${jsonencode(private_net)}
%{ if mode == "nat-vpn" && hub != null ~}
hub = ${jsonencode(hub)}
%{ endif ~}
%{ if mode == "nat-vpn" && hub_tag != null ~}
hub_tag = { key = ${jsonencode(hub_tag.key)}, value = ${jsonencode(hub_tag.value)} }
%{ endif ~}
%{ if mode == "nat-vpn" && hub_region != null ~}
regions = ${jsonencode([hub_region])}
%{ endif ~}
%{ if (mode == "vpn-hub" || mode == "nat-vpn" && hub_region == null) && length(regions) > 0 ~}
regions = ${jsonencode(regions)}
%{ endif ~}
%{ if gateway_tag != null ~}
gateway_tag = { key = ${jsonencode(gateway_tag.key)}, value = ${jsonencode(gateway_tag.value)} }
%{ endif ~}
%{ if environment_tag != null ~}
environment_tag = { key = ${jsonencode(environment_tag.key)}, value = ${jsonencode(environment_tag.value)} }
%{ endif ~}
%{ if routes_tag != null ~}
routes.tag = { key = ${jsonencode(routes_tag.key)}, value = ${jsonencode(routes_tag.value)} }
%{ endif ~}
%{ if routes_overrule != null ~}
routes.overrule = ${jsonencode(routes_overrule)}
%{ endif ~}
%{ if address_allocation != null ~}
address.allocation = ${jsonencode(address_allocation)}
%{ endif ~}
%{ if address_tag != null ~}
address.tag = { key = ${jsonencode(address_tag.key)}, value = ${jsonencode(address_tag.value)} }
%{ endif ~}
%{ if auth_method != null || max_key_age != null ~}

[auth]
%{ endif ~}
%{ if auth_method != null ~}
method = ${jsonencode(auth_method)}
%{ endif ~}
%{ if max_key_age != null ~}
max_key_age = ${jsonencode(max_key_age)}
%{ endif ~}
