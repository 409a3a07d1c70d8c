"""The driver of a cluster of several nodes: nodes_driver.py spark|ray ADDRESS OWN-HOST WHAT ARGUMENTS..."""

import hashlib
import json
import os
import signal
import sys
import time
from pathlib import Path

import keras
import numpy as np
import psutil

import masslib


def training(checkpoint, killed, epochs):
    """Train; in the first attempt the worker of node 1 kills itself, or what it runs in, before the second epoch.

    One that is left alone trains an epoch and waits until it is told to save and end, for there is company again.
    """
    strategy = masslib.strategy("multi_worker")
    config = json.loads(os.environ["TF_CONFIG"])
    rank, node = config["task"]["index"], os.environ.get("NODE_OF_TEST", "-local").rpartition("-")[2]
    keras.utils.set_random_seed(0)
    with strategy.scope():
        model = masslib.models.mlp((8,), 3)
        model.compile("sgd", "sparse_categorical_crossentropy")
    x = np.random.default_rng(0).normal(size=(256, 8)).astype("float32")

    first, seen = [], []

    class Killer(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            first.append(time.time())

        def on_epoch_begin(self, epoch, logs=None):
            seen.append(epoch)
            alone = strategy.num_replicas_in_sync == 1 and len(seen) > 1
            while alone and signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:  # a second one would end the process
                time.sleep(0.1)
            if rank == 0:
                print(f"epoch {epoch} with {strategy.num_replicas_in_sync}", flush=True)
            if epoch == 1 and killed and node == "1" and os.environ["MASSLIB_ATTEMPT"] == "0":
                kill(killed)

    masslib.fit(
        *(model, x, np.arange(256) % 3), epochs=epochs, batch_size=32, verbose=0, checkpoint=checkpoint,
        callbacks=[Killer()],
    )  # fmt: skip
    weights = hashlib.sha256(b"".join(value.tobytes() for value in model.get_weights())).hexdigest()
    return {
        "rank": rank,
        "attempt": os.environ["MASSLIB_ATTEMPT"],
        "weights": weights,
        "first_step": first[0],
        "values": [float(value) for array in model.get_weights() for value in array.ravel()],
        "workers": strategy.num_replicas_in_sync,
        "addresses": config["cluster"]["worker"],
        "node": node,
    }


def kill(what):
    if what == "node":  # all that runs on the host of this worker, and this process last
        mine = os.environ["NODE_OF_TEST"]
        for process in psutil.process_iter():
            try:
                if process.pid != os.getpid() and process.environ().get("NODE_OF_TEST") == mine:
                    process.send_signal(signal.SIGKILL)
            except psutil.Error:
                continue
        os.kill(os.getpid(), signal.SIGKILL)
    above = psutil.Process().parents()
    chosen = {"worker": psutil.Process(), "task": above[0]}
    chosen["executor"] = next((process for process in above if "java" in process.name()), above[0])
    chosen[what].send_signal(signal.SIGKILL)
    time.sleep(60)  # it is ended because of that, and must not come to its end before


def shards(on, folder):
    digits = masslib.data.load("digits")
    masslib.data.write_shards(digits.train, folder, shards=5, on=on)
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(Path(folder).iterdir())}


def main(kind, address, host, what, *arguments):
    if kind == "spark":
        from pyspark.sql import SparkSession

        settings = {"spark.ui.enabled": "false", "spark.driver.host": host, "spark.driver.bindAddress": host}
        settings |= {"spark.log.level": "WARN", "spark.executor.memory": "512m", "spark.task.cpus": os.environ["CPUS"]}
        session = on = SparkSession.builder.master(address).config(map=settings).getOrCreate()
        end = time.monotonic() + 60
        while session.sparkContext.defaultParallelism < int(os.environ["SLOTS"]) and time.monotonic() < end:
            time.sleep(0.1)
    elif kind == "ray":
        import ray

        ray.init(address=address, log_to_driver=False, _node_ip_address=host)
        on = address
    else:
        on = None
    if what == "shards":
        told = shards(on, *arguments)
    else:
        checkpoint, killed, workers, epochs = arguments
        workers = json.loads(workers)
        elastic = {} if isinstance(workers, int) else {"elastic_timeout": 10.0}
        start = time.time()
        told = masslib.launch(
            training,
            [checkpoint, killed, int(epochs)],
            workers=workers if isinstance(workers, int) else tuple(workers),
            threads=1,
            max_restarts=1,
            timeout=400,
            on=on or "local",
            **elastic,
        )
        for result in told:  # on one machine, whose clock is that of all nodes
            result["seconds_to_first_step"] = round(result.pop("first_step") - start, 1)
    if kind == "ray":
        from ray.util import placement_group_table

        groups = {group["state"] for group in placement_group_table().values()}
        assert groups <= {"REMOVED"}, groups
    print()
    print(json.dumps(told))


if __name__ == "__main__":
    main(*sys.argv[1:])
