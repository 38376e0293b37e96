"""Whether other work disturbed a measurement. Standard library only."""
import os
import resource


class OtherWork:
    """The share of the processors' time that went to other programs, or to the host's other machines, since the object was made."""

    def __init__(self):
        self.total, self.idle = self._machine()
        self.own = self._own()

    @staticmethod
    def _machine():
        """Ticks of all processors since the start of the system: all, and idle ones."""
        with open("/proc/stat", encoding="ascii") as stat:
            user, nice, system, idle, iowait, irq, softirq, steal = (int(n) for n in stat.readline().split()[1:9])
        return user + nice + system + idle + iowait + irq + softirq + steal, idle + iowait

    @staticmethod
    def _own():
        """Seconds of this process and of the programs it ran to their end."""
        return sum(usage.ru_utime + usage.ru_stime for usage in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)))

    def share(self):
        total, idle = self._machine()
        ticks = total - self.total
        others = ticks - (idle - self.idle) - (self._own() - self.own) * os.sysconf("SC_CLK_TCK")
        return max(0.0, others / ticks) if ticks > 0 else 0.0
