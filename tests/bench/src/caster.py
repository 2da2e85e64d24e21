"""What a cast does, by a boto3 script: the steps of a plan, each as soon as what it needs is there, eight at once; and as many questions.

caster.py PLAN QUESTIONS: `cloudcaster plan --json`, and {operation: how often}.
"""

import base64
import json
import sys
import time
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait

import boto3
from botocore import xform_name

REGION = "us-west-2"
SERVICES = ["ec2", "elbv2", "autoscaling", "iam", "route53", "sts", "acm"]
clients = {name: boto3.client(name, REGION) for name in SERVICES}
ec2, dns = clients["ec2"], clients["route53"]
made = {}
# Python's own start is not counted.
started = time.monotonic()


def call(client, operation, **arguments):
    return getattr(client, operation)(**arguments)


def tags(kind, given):
    return [{"ResourceType": kind, "Tags": [{"Key": key, "Value": value} for key, value in given.items()]}]


def step(cast, s):
    kind = s["step"]
    ref = lambda value: made[cast, value["new"]] if isinstance(value, dict) else value
    if kind == "create-vpc":
        vpc = call(ec2, "create_vpc", CidrBlock=s["cidr"], TagSpecifications=tags("vpc", s["tags"]))["Vpc"]["VpcId"]
        of_vpc = [{"Name": "vpc-id", "Values": [vpc]}]
        tables = call(ec2, "describe_route_tables", Filters=of_vpc)["RouteTables"]
        made[cast, "table/private"] = tables[0]["RouteTableId"]
        return vpc
    if kind == "enable-dns-hostnames":
        return call(ec2, "modify_vpc_attribute", VpcId=ref(s["vpc"]), EnableDnsHostnames={"Value": True}) and None
    if kind == "create-internet-gateway":
        answer = call(ec2, "create_internet_gateway", TagSpecifications=tags("internet-gateway", s["tags"]))
        return answer["InternetGateway"]["InternetGatewayId"]
    if kind == "attach-internet-gateway":
        call(ec2, "attach_internet_gateway", InternetGatewayId=ref(s["gateway"]), VpcId=ref(s["vpc"]))
    if kind == "create-subnet":
        answer = call(
            ec2,
            "create_subnet",
            VpcId=ref(s["vpc"]),
            CidrBlock=s["cidr"],
            AvailabilityZone=s["zone"],
            TagSpecifications=tags("subnet", s["tags"]),
        )
        return answer["Subnet"]["SubnetId"]
    if kind == "adopt":
        call(ec2, "create_tags", Resources=[ref(s["what"])], Tags=tags("", s["tags"])[0]["Tags"])
    if kind == "create-route-table":
        answer = call(ec2, "create_route_table", VpcId=ref(s["vpc"]), TagSpecifications=tags("route-table", s["tags"]))
        return answer["RouteTable"]["RouteTableId"]
    if kind == "associate":
        call(ec2, "associate_route_table", RouteTableId=ref(s["table"]), SubnetId=ref(s["subnet"]))
    if kind == "create-group":
        answer = call(
            ec2,
            "create_security_group",
            GroupName=s["name"],
            Description=s["name"],
            VpcId=ref(s["vpc"]),
            TagSpecifications=tags("security-group", s["tags"]),
        )
        return answer["GroupId"]
    if kind == "allow":
        permissions = [permission(rule, ref) for rule in s["rules"]]
        call(ec2, "authorize_security_group_ingress", GroupId=ref(s["group"]), IpPermissions=permissions)
    if kind == "create-interface":
        answer = call(
            ec2,
            "create_network_interface",
            SubnetId=ref(s["subnet"]),
            Groups=[ref(group) for group in s["groups"]],
            TagSpecifications=tags("network-interface", s["tags"]),
        )
        interface = answer["NetworkInterface"]["NetworkInterfaceId"]
        off = {"Value": False}
        call(ec2, "modify_network_interface_attribute", NetworkInterfaceId=interface, SourceDestCheck=off)
        return interface
    if kind == "allocate-address":
        answer = call(ec2, "allocate_address", Domain="vpc", TagSpecifications=tags("elastic-ip", s["tags"]))
        return answer["AllocationId"]
    if kind == "associate-address":
        call(ec2, "associate_address", AllocationId=ref(s["address"]), NetworkInterfaceId=ref(s["to"]))
    if kind == "launch":
        return launch(s, ref)
    if kind == "create-route":
        target = ref(s["target"])
        by = "GatewayId" if target.startswith("igw-") else "NetworkInterfaceId"
        call(ec2, "create_route", RouteTableId=ref(s["table"]), DestinationCidrBlock=s["to"], **{by: target})
    if kind == "set-record":
        found = call(ec2, "describe_network_interfaces", NetworkInterfaceIds=[ref(s["target"])])
        name = found["NetworkInterfaces"][0]["Association"]["PublicDnsName"]
        record = {"Name": s["name"], "Type": "CNAME", "TTL": 60, "ResourceRecords": [{"Value": name}]}
        batch = {"Changes": [{"Action": "UPSERT", "ResourceRecordSet": record}]}
        call(dns, "change_resource_record_sets", HostedZoneId=zone(), ChangeBatch=batch)
    return None


def permission(rule, ref):
    found = {"IpProtocol": rule["protocol"]}
    if rule["protocol"] != "-1":
        found |= {"FromPort": rule["from"], "ToPort": rule["to"]}
    if "cidr" in rule:
        return found | {"IpRanges": [{"CidrIp": rule["cidr"]}]}
    return found | {"UserIdGroupPairs": [{"GroupId": ref(rule["group"])}]}


def launch(s, ref):
    answer = call(
        ec2,
        "run_instances",
        ImageId=s["image"],
        InstanceType=s["type"],
        MinCount=1,
        MaxCount=1,
        ClientToken=s["token"],
        KeyName=s["key_pair"],
        IamInstanceProfile={"Name": s["profile"]},
        NetworkInterfaces=[{"DeviceIndex": 0, "NetworkInterfaceId": ref(s["place"]["interface"])}],
        MetadataOptions={"HttpTokens": "required", "HttpPutResponseHopLimit": 1},
        UserData=base64.b64encode(b"#cloud-config\n").decode(),
        TagSpecifications=tags("instance", s["tags"]),
    )
    instance = answer["Instances"][0]["InstanceId"]
    while True:
        statuses = call(ec2, "describe_instance_status", InstanceIds=[instance])["InstanceStatuses"]
        if statuses and statuses[0]["InstanceStatus"]["Status"] == "ok":
            return instance
        time.sleep(0.5)


def zone():
    return dns_zone[0]["Id"]


def ask(operation, types):
    name = xform_name(operation)
    client = next(client for client in clients.values() if hasattr(client, name))
    arguments = {
        "describe_images": {"Owners": ["self"]},
        "describe_instance_types": {"InstanceTypes": types},
        "describe_instance_type_offerings": {
            "LocationType": "availability-zone",
            "Filters": [{"Name": "instance-type", "Values": types}],
        },
        "describe_vpc_attribute": {"VpcId": default, "Attribute": "enableDnsHostnames"},
        "get_change": {"Id": "C2682N5HXP0BZ4"},
        "list_resource_record_sets": {"HostedZoneId": zone()},
    }
    call(client, name, **arguments.get(name, {}))


def needs(value):
    """The parts that a step refers to."""
    if isinstance(value, dict):
        return {value["new"]} if set(value) == {"new"} else set().union(*map(needs, value.values()))
    return set().union(*map(needs, value)) if isinstance(value, list) else set()


def run(pool, steps):
    """Each step once its parts are made. A record and a route come after what they lead to runs."""
    waiting, running = list(steps), {}
    late = {"create-route": "launch", "set-record": "associate-address", "launch": "associate-address"}
    early = {"associate-address": "attach-internet-gateway"}
    while waiting or running:
        busy = {(cast, s["step"]) for cast, s in waiting} | {(cast, s["step"]) for cast, s in running.values()}
        for cast, s in list(waiting):
            after = [before[s["step"]] for before in (late, early) if s["step"] in before]
            ready = all((cast, part) in made for part in needs(s))
            if ready and not any((cast, kind) in busy for kind in after):
                waiting.remove((cast, s))
                running[pool.submit(step, cast, s)] = (cast, s)
        done, _ = wait(running, return_when=FIRST_COMPLETED)
        for future in done:
            cast, s = running.pop(future)
            result = future.result()
            if result:
                made[cast, s["part"]] = result


plans = json.load(open(sys.argv[1]))["plans"]
questions = [name for name, often in json.load(open(sys.argv[2])).items() for _ in range(often)]
steps, rules = [], {}
for plan in plans:
    for s in plan["steps"]:
        if s["step"] != "allow":
            steps.append((plan["subject"], s))
        else:
            # The rules of one group are one call.
            key = (plan["subject"], s["group"]["new"])
            if key not in rules:
                rules[key] = s | {"rules": []}
                steps.append((plan["subject"], rules[key]))
            rules[key]["rules"].append(s["rule"])
types = sorted({s["type"] for _, s in steps if s["step"] == "launch"})
dns_zone = dns.list_hosted_zones_by_name(MaxItems="1")["HostedZones"]
default = ec2.describe_vpcs()["Vpcs"][0]["VpcId"]
half = len(questions) // 2
with ThreadPoolExecutor(8) as pool, ThreadPoolExecutor(32) as asking:
    list(asking.map(lambda q: ask(q, types), questions[:half]))
    run(pool, steps)
    list(asking.map(lambda q: ask(q, types), questions[half:]))
print(time.monotonic() - started)
