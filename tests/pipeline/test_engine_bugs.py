from tests.making_runs import *
import pytest
def test_basic(on_both):
    on_both.write(rows(20))
    e=on_both.run(FakeLane())
    assert e.exit_code==0, e
    assert len(on_both.texts())==20
def test_lane_raises(case):
    case.write(rows(5))
    def s(a):
        if prompt_of(a)=="row 3": raise RuntimeError("bug")
        return answered()
    with pytest.raises(RuntimeError): case.run(FakeLane(s))
def test_pause_pending(case):
    case.write([row("a")])
    lane=FakeLane(lambda a: answered("x",stop_reason="pause_turn") if a.leg<3 else answered("end"))
    e=case.run(lane)
    assert e.exit_code==0
    assert case.ask("select attempt_id,state from attempts where pending=1")==[]
def test_scout_memory(case):
    import asyncio
    case.write(rows(20000,"r {}"))
    seen=[]
    async def first(a):
        for _ in range(300): await asyncio.sleep(0.005)
        seen.append(read[0])
        return answered()
    read=[0]
    class B(RequestBuilder):
        def build(self,*x):
            read[0]+=1
            return super().build(*x)
    lane=FakeLane(lambda a: first(a) if prompt_of(a)=="r 1" else answered())
    case.run(lane,builder=B(SETTINGS))
    assert seen[0]<5000
