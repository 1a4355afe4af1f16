#!/bin/sh
# The first process of a guest: runs the steps, says on the console how each ended, and powers off.
#
# Nothing is mounted over /tmp or /run: the root is memory already, and the checkout may lie there.
export PATH=/bin:/sbin:/usr/bin:/usr/sbin RUST_BACKTRACE=0
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mount -t bpf bpf /sys/fs/bpf
mount -t tracefs tracefs /sys/kernel/tracing
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mkdir -p /tmp /run /dev/shm /dev/pts
mount -t tmpfs tmpfs /dev/shm
# No module is loaded here: on a node too, the kernel loads what the agent asks for, by /sbin/modprobe.
ip link set lo up
# NAME JIT MODULE PROGRAM ARGUMENTS...: JIT is 1, or 0 for the interpreter, which some kernels do not have. MODULE is not there meanwhile.
step() {
    name=$1
    jit=$2
    module=$3
    export AZURE_CNI_KERNEL_LACKS=$module
    shift 3
    if ! echo $jit > /proc/sys/net/core/bpf_jit_enable; then
        echo "@@ pass $name"
        return
    fi
    echo "@@ begin $name"
    for file in /lib/modules/*/kernel/*/*/$module.ko*; do
        [ -e "$file" ] && busybox mv "$file" "$file.away"
    done
    "$@"
    echo "@@ end $name $?"
    for file in /lib/modules/*/kernel/*/*/$module.ko*.away; do
        [ -e "$file" ] && busybox mv "$file" "${file%.away}"
    done
}
. /environment
. /steps
poweroff -f
