# Baked by Packer. Another file in /etc/crosswan/conf.d, by user data, overrules what is here; the key never is.
mode = ${jsonencode(mode)}
private_net = ${jsonencode(private_net)}
%{ if mode == "nat-vpn" && hub != null ~}
hub = ${jsonencode(hub)}
%{ endif ~}
%{ if mode == "nat-vpn" && hub_tag != null ~}
hub_tag = { key = ${jsonencode(hub_tag.key)}, value = ${jsonencode(hub_tag.value)} }
%{ endif ~}
%{ if mode != "nat-hub" && length(regions) > 0 ~}
regions = ${jsonencode(regions)}
%{ endif ~}
%{ if mode == "vpn-hub" && gateway_tag != null ~}
gateway_tag = { key = ${jsonencode(gateway_tag.key)}, value = ${jsonencode(gateway_tag.value)} }
%{ endif ~}
%{ if mode != "nat-hub" && environment_tag != null ~}
environment_tag = { key = ${jsonencode(environment_tag.key)}, value = ${jsonencode(environment_tag.value)} }
%{ endif ~}
