"""Reads and writes objects through the connection pools of requests, urllib3 and botocore, and compares digests.

Usage: pools.py URL DIGESTS DIRECTORY
"""

import hashlib
import sys
from concurrent.futures import ThreadPoolExecutor

import requests
import urllib3
from botocore.awsrequest import AWSRequest
from botocore.httpsession import URLLib3Session

THREADS = 8

urllib3.disable_warnings()
url, digests_file, directory = sys.argv[1:]
digests = [line.split() for line in open(digests_file)]


def check(name, expected, status, body, wanted=200):
    assert status == wanted, (name, status)
    assert hashlib.sha256(body).hexdigest() == expected, name


def content(name):
    with open(f"{directory}/{name}", "rb") as file:
        return file.read()


def with_requests(name, expected):
    reply = session.get(f"{url}/o/{name}", timeout=30)
    check(name, expected, reply.status_code, reply.content)
    part = content(name)[100:5000]
    if part:
        reply = session.get(f"{url}/o/{name}", headers={"Range": "bytes=100-4999"}, timeout=30)
        check(name, hashlib.sha256(part).hexdigest(), reply.status_code, reply.content, 206)


def with_urllib3(name, expected):
    reply = pool.request("GET", f"{url}/o/{name}", timeout=30, retries=False)
    check(name, expected, reply.status, reply.data)


def with_botocore(name, expected):
    def send(method, body=None):
        request = AWSRequest(method=method, url=f"{url}/py/{name}", data=body, headers={"Content-Type": "a/b"})
        return aws.send(request.prepare())

    assert send("PUT", content(name)).status_code in (200, 201), name
    reply = send("GET")
    check(name, expected, reply.status_code, reply.content)
    assert send("DELETE").status_code == 204, name


with requests.Session() as session, ThreadPoolExecutor(THREADS) as threads:
    session.verify = False
    # Or else an environment with certificates of its own wins.
    session.trust_env = False
    session.mount(url, requests.adapters.HTTPAdapter(pool_maxsize=THREADS, max_retries=0))
    pool = urllib3.PoolManager(maxsize=THREADS, cert_reqs="CERT_NONE")
    aws = URLLib3Session(verify=False, max_pool_connections=THREADS)
    for read in (with_requests, with_urllib3, with_botocore):
        list(threads.map(lambda line: read(line[1], line[0]), digests))
