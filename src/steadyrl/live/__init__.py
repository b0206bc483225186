"""Learning from served feedback: sessions are stored, learned from in generations, and judged.

sessions -> store -> generation -> training -> gate -> promoted or rolled back -> served
"""

from steadyrl.base.lazy_exports import lazy_exports

__all__ = ["GateSettings", "LiveConfig", "LiveLoop", "SessionStore", "StoreRecorder"]

__getattr__ = lazy_exports(
    __name__,
    {
        "GateSettings": "settings",
        "LiveConfig": "settings",
        "LiveLoop": "loop",
        "SessionStore": "store",
        "StoreRecorder": "recorder",
    },
)
