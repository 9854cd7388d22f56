// Package iam says who may do what on the control plane: accounts, principals,
// their access keys, and policies in AWS's own policy language.
//
// A file enters (Parse), a Snapshot leaves: immutable, with every policy checked
// and taken apart, so that a decision looks at memory only. A Store keeps the
// snapshot of a file that may change. Nothing here talks to a caller: a Decision
// has the sentence for the caller and, apart from it, the one for the log.
//
// The file, iam.yaml:
//
//	accounts:
//	  "123456789012":
//	    pending_verification: false        # true blocks chat for the account
//	    service_control_policies: [guard]  # optional; each must allow
//	    policies:                          # by name, for the members below
//	      issue-tokens:                    # AWS policy JSON, as YAML, as a string of JSON,
//	        Version: "2012-10-17"          # or {file: policies/issue-tokens.json}
//	        Statement:
//	          - {Effect: Allow, Action: "ivschat:CreateChatToken", Resource: "*"}
//	      guard: '{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"*","Resource":"*"}}'
//	    groups:
//	      developers: {policies: ["arn:aws:iam::aws:policy/IVSReadOnlyAccess"]}
//	    users:
//	      backend:
//	        path: /apps/                   # optional, in the principal's ARN
//	        tags: {team: chat}             # aws:PrincipalTag/team
//	        groups: [developers]
//	        policies: [issue-tokens]
//	        permissions_boundary: guard    # optional
//	        access_keys:
//	          - {id: AKIAIOSFODNN7EXAMPLE, secret: wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY}
//	          - {id: AKIAI44QH8DHBEXAMPLE, secret_file: backend.key, status: disabled}
//	    roles:
//	      moderator:
//	        policies: ["arn:aws:iam::aws:policy/IVSFullAccess"]
//	        sessions:                      # assumed-role principals with temporary keys
//	          alice:
//	            session_policy: issue-tokens   # optional
//	            access_keys:
//	              - {id: ASIAIOSFODNN7EXAMPLE, secret_env: ALICE_SECRET, session_token: FwoGZXIvYXdzEXAMPLE, expires: 2026-12-31T00:00:00Z}
//	    root:
//	      access_keys: [{id: AKIAROOT0000EXAMPLE, secret: rootSecretrootSecretrootSecretrootSecret}]
//
// A key has one of secret, secret_file (a path beside the file, or absolute) and
// secret_env. A key with session_token is temporary and has expires.
//
// Source: spec iam A.4 and Part B.
package iam
