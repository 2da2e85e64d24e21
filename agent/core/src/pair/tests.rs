mod beats;
mod judging;
