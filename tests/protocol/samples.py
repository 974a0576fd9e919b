"""One example of every message; the golden bytes are those of these."""

from __future__ import annotations

from ps.protocol import messages as m

LAYOUT = (("layer.w", "float32", (3, 5)), ("scale", "float64", ()))

SAMPLES: tuple[m.Message, ...] = (
    m.Error(7, "layout", "worker 1 has w float32[2] where worker 0 has w float32[3]"),
    m.Hello(0, 1 << 61, "worker", -1, "höst", 4242, ("ipc:///tmp/a.sock", "tcp://h:7071"), {"staleness": 2}),
    m.Welcome(0, 3, 1, 10.0, {"servers": 2, "clip_norm": None}),
    m.View(5, "running", "", "", {"mode": "sync"}, ((1, "server", 0, False, "h, pid 1", ("tcp://h:7071",)),)),
    m.Heartbeat(3, 5, {"clock": 12, "waiting_for": (1, 2)}),
    m.HeartbeatAck(5),
    m.Leave(0, 3, {"clock": 400}),
    m.InitRequest(1, 3, LAYOUT),
    m.InitGrant(1, True),
    m.InitDone(2, 3),
    m.BarrierEnter(3, 3, 70_000),
    m.BarrierLeave(3, 70_001),
    m.StatusRequest(0),
    m.Status(0, {"phase": "running", "workers": ({"rank": 0, "lag": 1.5},)}),
    m.Ping(7),
    m.Pong(7, "server", 1),
    m.Ok(9),
    m.Attach(10, 3, 5),
    m.Attached(10, 12),
    m.Start(11, 3, 12),
    m.Retire(12, 3),
    m.Init(13, 3, 2, 1 << 20, LAYOUT),
    m.InitChunk(14, 3, 1),
    m.Push(15, 3, 1, 12, 12, 32.0, 0.5, True),
    m.Skip(16, 3, 1, 12, False, 12),
    m.Pull(17, 3, 1, 13, False),
    m.Squares(15, 1, 0.25),
    m.Scale(18, 3, 1, 12, 0.75, True, 12),
    m.SetLr(19, 3, 12, 0.001),
    m.Weights(15, 1, 13, 2),
    m.Pushed(16, 1, 13, 0),
    m.Late(15, 1, 14),
    m.Inquire(0, 3, (15, 300, 70_000)),
    m.Waiting(0, (15,), 13, (0, 2)),
    m.Share(18, 4096, True),
    m.Shared(18, False),
    m.Delta(15, 1, 13, 2),
)  # fmt: skip
