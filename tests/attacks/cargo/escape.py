"""An entry script that tries to get out, and tells what came of it. It runs inside the module's container."""

SCRIPT = r'''
import ctypes, errno, json, os, pickle, signal, socket, subprocess, threading

def code(action):
    """The name of the error; "worked" where there was none."""
    try:
        action()
    except OSError as error:
        return errno.errorcode.get(error.errno, type(error).__name__)
    except Exception as error:
        return type(error).__name__
    return "worked"

def write(path):
    with open(path, "w") as one:
        one.write("x")

def connect(family, address):
    with socket.socket(family, socket.SOCK_STREAM) as one:
        one.settimeout(2)
        one.connect(address)

libc = ctypes.CDLL(None, use_errno=True)

def system(name, *arguments):
    def call():
        if getattr(libc, name)(*arguments) == -1:
            raise OSError(ctypes.get_errno(), name)
    return call

def forks():
    """How many children it may have before it is stopped; all of them are ended again."""
    children = []
    try:
        while len(children) < 4096:
            children.append(os.fork() or os._exit(signal.pause() or 0))
    except OSError as error:
        return len(children), errno.errorcode[error.errno]
    finally:
        for child in children:
            os.kill(child, signal.SIGKILL)
        for child in children:
            os.waitpid(child, 0)
    return len(children), "worked"

def su():
    if not os.path.exists("/bin/su"):
        return ""
    done = subprocess.run(["/bin/su", "-c", "id -u"], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    return done.stdout.strip()

def loaded(kind):
    import numpy
    if kind == "npy":
        return numpy.load(os.path.join(os.environ["AZUREML_MODEL_DIR"], "object.npy"))

def init():
    pass

def run(data):
    asked = json.loads(data)
    if asked.get("x") != "escape":
        return {"ok": 1}
    status = dict(line.split(":", 1) for line in open("/proc/self/status").read().splitlines())
    children = forks()
    mounts = [line.split() for line in open("/proc/self/mounts")]
    return {
        "files": {path: code(lambda path=path: write(path)) for path in (
            "/x", "/etc/x", "/usr/x", "/module/x", "/module/files/x", "/module/files/source/score.py", "/dev/x",
            "/proc/sys/kernel/core_pattern", "/proc/sysrq-trigger", "/sys/fs/cgroup/x", "/sys/kernel/uevent_helper")},
        "read": {path: code(lambda path=path: open(path, "rb").read(1)) for path in (
            *asked["paths"], "/proc/kcore", "/proc/1/mem", "/dev/mem", "/dev/sda", "/dev/vda", "/etc/shadow")},
        "sockets": [path for path in ("/var/run/docker.sock", "/run/docker.sock", "/run/containerd/containerd.sock",
                                      "/run/podman/podman.sock", *asked["sockets"]) if os.path.exists(path)],
        "net": {name: code(lambda address=tuple(address): connect(socket.AF_INET, address))
                for name, address in asked["net"].items()},
        "raw": code(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW)),
        "calls": {
            "setuid": code(lambda: os.setuid(0)),
            "setgroups": code(lambda: os.setgroups([0])),
            "mount": code(system("mount", b"none", b"/tmp", b"tmpfs", 0, None)),
            "unshare": code(system("unshare", 0x10000000 | 0x00020000)),
            "pivot_root": code(system("pivot_root", b"/", b"/tmp")),
            "chroot": code(lambda: os.chroot("/tmp")),
            "mknod": code(lambda: os.mknod("/tmp/sda", 0o60666, os.makedev(8, 0))),
            "reboot": code(system("reboot", 0x1234567)),
            "nice": code(lambda: os.setpriority(os.PRIO_PROCESS, 0, -10)),
        },
        "user": [os.getuid(), os.geteuid()],
        "capabilities": [int(status[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")],
        "no_new_privileges": status["NoNewPrivs"].strip(),
        "seccomp": status["Seccomp"].strip(),
        "setuid_programs": su(),
        "others": sorted(name for name in os.listdir("/proc") if name.isdigit() and
                         b"agent" in open(f"/proc/{name}/cmdline", "rb").read()),
        "forks": children,
        "from_the_host": sorted(
            one[1] for one in mounts if one[0].startswith("/dev/") and "ro" not in one[3].split(",")),
        "npy": code(lambda: loaded("npy")),
        "secrets": sorted(
            name for name in os.environ if any(word in name for word in ("TOKEN", "SECRET", "KEY", "PASS"))),
    }
'''
