use super::*;
#[test]
fn show() {
    for t in [TunnelMatch::None, TunnelMatch::Policy, TunnelMatch::Interface("ipsec0".parse().unwrap())] {
        let nat = Nat {
            private_net: ["10.0.0.0/8".parse().unwrap()].into(),
            own: ["10.1.0.0/16".parse().unwrap(), "100.64.0.0/16".parse().unwrap()].into(),
            masquerade: Some("ens5".parse().unwrap()),
            tunnel: t,
        };
        println!("{}", render(&nat));
        let want = Rules::parse(&render(&nat));
        let c = plan(&want, &Rules::default()).unwrap();
        println!("{}\n{c}\n{:?}", c.input(), c.details());
    }
}
