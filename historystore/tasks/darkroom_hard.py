"""Dark Room (Hard): a 17x17 grid that rewards the first arrival of an episode alone."""

from historystore.tasks.darkroom import DarkRoomFamily

FAMILY = DarkRoomFamily(
    name="darkroom-hard", version=1, env_id="historystore/DarkRoomHard-v0", size=17, is_rewarded_once=True
)
