"""The 2014 poller with today's boto3: one region after the other, one file written whole, everything loaded again.

poller.py ENDPOINT FILE KEY LOCAL_ADDRESS HUB_ID REGION...
"""

import subprocess
import sys

import boto3

CONNECTION = """
    crosswan-{vpc} {{
        version = 2
        local_addrs = {local}
        remote_addrs = {remote}
        mobike = no
        encap = yes
        unique = replace
        keyingtries = 1
        dpd_delay = 10s
        proposals = aes256gcm16-prfsha384-x25519,aes256gcm16-prfsha384-ecp384
        local {{
            auth = psk
            id = {hub}
        }}
        remote {{
            auth = psk
            id = {vpc}
        }}
        children {{
            {child} {{
                local_ts = 10.0.0.0/8
                remote_ts = {cidr}
                esp_proposals = aes256gcm16-x25519,aes256gcm16-ecp384
                start_action = trap
                dpd_action = clear
            }}
        }}
    }}
"""

endpoint, path, key, local, hub, *regions = sys.argv[1:]
connections = []
for region in regions:
    ec2 = boto3.client("ec2", region, endpoint_url=endpoint, aws_access_key_id="AKIDEXAMPLE", aws_secret_access_key="x")
    filters = [{"Name": "tag:service", "Values": ["nat"]}, {"Name": "instance-state-name", "Values": ["running"]}]
    pages = ec2.get_paginator("describe_instances").paginate(Filters=filters)
    gateways = [i for page in pages for r in page["Reservations"] for i in r["Instances"]]
    ids, cidrs = sorted({gateway["VpcId"] for gateway in gateways}), {}
    for at in range(0, len(ids), 200):
        for vpc in ec2.describe_vpcs(Filters=[{"Name": "vpc-id", "Values": ids[at : at + 200]}])["Vpcs"]:
            cidrs[vpc["VpcId"]] = vpc["CidrBlock"]
    for gateway in gateways:
        vpc, remote = gateway["VpcId"], gateway["PublicIpAddress"]
        child = "c-" + cidrs[vpc].replace(".", "-").replace("/", "-")
        connections.append(
            CONNECTION.format(vpc=vpc, local=local, remote=remote, hub=hub, child=child, cidr=cidrs[vpc])
        )
with open(path, "w") as file:
    file.write("connections {" + "".join(connections) + "}\nsecrets {\n    ike-all {\n        secret = " + key + "\n    }\n}\n")
print(f"{len(connections)} connections")
sys.stdout.flush()
subprocess.run(["swanctl", "--load-all", "--noprompt", "--file", path], check=True, stdout=subprocess.DEVNULL)
