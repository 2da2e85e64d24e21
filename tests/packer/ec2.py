"""EC2 for Packer: moto under AWS's own names and TLS, what moto lacks, and a record of what was asked."""

import io
import json
import os
import subprocess
import threading
import urllib.parse
from pathlib import Path

DEBIAN = "136693071363"
REGIONS = ["us-west-2", "eu-west-1"]

# What EC2 does and moto does not know. The answers are EC2's.
GAPS = {"EnableImageDeprecation"}
YES = '<{0}Response xmlns="http://ec2.amazonaws.com/doc/2016-11-15/"><requestId>0</requestId><return>true</return></{0}Response>'


def debian_images():
    """Debian's AMIs as source_ami_filter must tell them apart: two of Debian 13, an older one, another release, and a stranger's."""
    images = []
    for arch, machine in (("amd64", "x86_64"), ("arm64", "arm64")):
        for name, owner, day in (
            (f"debian-13-{arch}-20260901-2222", DEBIAN, "2026-09-01"),
            (f"debian-13-{arch}-20261015-2266", DEBIAN, "2026-10-15"),
            (f"debian-12-{arch}-20261101-2280", DEBIAN, "2026-11-01"),
            (f"debian-13-{arch}-20261120-9999", "666666666666", "2026-11-20"),
        ):
            images.append({
                "ami_id": f"ami-{len(images):017x}", "name": name, "owner_id": owner, "public": True, "architecture": machine,
                "creation_date": f"{day}T00:00:00.000Z", "root_device_type": "ebs", "root_device_name": "/dev/xvda",
                "virtualization_type": "hvm", "hypervisor": "xen", "description": name, "image_location": f"{owner}/{name}",
            })
    return images


class Ec2:
    """Serves all regions on port 443. `on_run` is called with the public key of each instance that is launched."""

    def __init__(self, work: Path, on_run):
        self.calls, self.on_run = [], on_run
        amis = work / "amis.json"
        amis.write_text(json.dumps(debian_images()))
        os.environ["MOTO_AMIS_PATH"] = str(amis)
        self.environment = self._names(work)
        self._serve()

    def _names(self, work: Path):
        """Makes AWS's names lead here, in this mount namespace, and returns what lets a client trust that."""
        names = ["sts.amazonaws.com"] + [f"{service}.{region}.amazonaws.com" for service in ("ec2", "sts") for region in REGIONS]
        hosts = work / "hosts"
        hosts.write_text("127.0.0.1 localhost " + " ".join(names) + "\n")
        subprocess.run(["mount", "--bind", hosts, "/etc/hosts"], check=True)
        self.key, self.certificate = work / "key.pem", work / "certificate.pem"
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
             "-subj", "/CN=moto", "-addext", "subjectAltName=" + ",".join(f"DNS:{name}" for name in names),
             "-keyout", self.key, "-out", self.certificate], check=True, capture_output=True)
        return {"SSL_CERT_FILE": str(self.certificate), "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test",
                "AWS_POLL_DELAY_SECONDS": "1"}

    def _serve(self):
        # Only now: moto reads MOTO_AMIS_PATH when it is loaded.
        from moto.backends import get_backend
        from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
        from werkzeug.serving import WSGIRequestHandler, make_server

        class Quiet(WSGIRequestHandler):
            def log(self, *_):
                pass

        self._backend = lambda region: get_backend("ec2")["123456789012"][region]
        self._moto = DomainDispatcherApplication(create_backend_app)
        server = make_server("127.0.0.1", 443, self._answer, threaded=True, request_handler=Quiet,
                             ssl_context=(str(self.certificate), str(self.key)))
        threading.Thread(target=server.serve_forever, daemon=True).start()

    def _answer(self, environ, start_response):
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        environ["wsgi.input"] = io.BytesIO(body)
        request = dict(urllib.parse.parse_qsl(body.decode(errors="replace")))
        action, region = request.get("Action", ""), environ["HTTP_HOST"].split(".")[1]
        self.calls.append((region, request))
        if action in GAPS:
            start_response("200 OK", [("Content-Type", "text/xml")])
            return [YES.format(action).encode()]
        if action == "RunInstances":
            self.on_run(self._backend(region).describe_key_pairs([request["KeyName"]])[0].material_public.decode())
        return self._moto(environ, start_response)

    def asked(self, action):
        """The requests for an action, each with its region."""
        return [(region, request) for region, request in self.calls if request.get("Action") == action]

    def own_images(self):
        """The images of the account, by (region, name): id, description, tags and launch permissions."""
        found = {}
        for region in REGIONS:
            for image in self._backend(region).describe_images(owners=["self"]):
                found[region, image.name] = {
                    "id": image.id, "description": image.description, "shared": image.launch_permissions,
                    "tags": {tag["key"]: tag["value"] for tag in image.get_tags()},
                }
        return found

    def left(self, region):
        """What still costs money or lies about: instances not terminated, key pairs, security groups but the default."""
        ec2 = self._backend(region)
        instances = [i.id for r in ec2.reservations.values() for i in r.instances if i.state != "terminated"]
        groups = [g.name for g in ec2.describe_security_groups() if g.name != "default"]
        return instances + [k.name for k in ec2.describe_key_pairs([])] + groups
